_base_ = [
    '../_base_/runtime/default.py', '../_base_/datasets/cifar100_16px.py', '../_base_/networks/cifar_networks.py',
    '../_base_/schedules/cifar_16px_8e.py'
]
model = _base_.resnet20
param_scheduler = dict(T_max=20)
train_cfg = dict(max_epochs=20, val_interval=20)
