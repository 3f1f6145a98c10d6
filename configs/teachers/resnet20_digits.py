_base_ = [
    '../_base_/runtime/default.py', '../_base_/datasets/digits.py', '../_base_/networks/digits_networks.py',
    '../_base_/schedules/digits_20e.py'
]
model = _base_.resnet20
param_scheduler = dict(T_max=60)
train_cfg = dict(max_epochs=60, val_interval=60)
