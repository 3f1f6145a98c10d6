# The schedule of the distillation literature on ImageNet, and of mmpretrain's ResNets.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=100, val_interval=5)
# Schedules of a published search and of the first stages of AB and FT, and epochs of the warm-up of a loss (mdistiller's). The
# stages have the proportions of CIFAR-100's and are not tuned.
search_stage = dict(param_scheduler=dict(milestones=[10, 13, 15]), train_cfg=dict(max_epochs=17, val_interval=5))
ab_stage = dict(param_scheduler=dict(), train_cfg=dict(max_epochs=12, val_interval=12))
ft_stage = ab_stage
warm_up_epochs = 1
