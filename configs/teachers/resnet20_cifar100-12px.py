_base_ = '../_base_/tasks/cifar100_12px.py'
model = _base_.resnet20
param_scheduler = dict(T_max=20)
train_cfg = dict(max_epochs=20, val_interval=20)
