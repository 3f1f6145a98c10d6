# Stage 1: search a process for 40 epochs on 80% of the training images, moving alpha by the loss on the other 20%.
_base_ = '../baselines/equal_resnet56_resnet20_cifar100.py'
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
param_scheduler = dict(milestones=[25, 30, 35])
train_cfg = dict(_delete_=True, type='mmrazor.DistProSearchLoop', max_epochs=40, val_interval=10)
