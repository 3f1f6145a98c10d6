# The schedule of the distillation literature and of DistPro's release.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=240, val_interval=20)
# Schedules of a published search and of the first stages of AB and FT, and epochs of the warm-up of a loss.
search_stage = dict(param_scheduler=dict(milestones=[25, 30, 35]), train_cfg=dict(max_epochs=40, val_interval=10))
ab_stage = dict(param_scheduler=dict(), train_cfg=dict(max_epochs=30, val_interval=30))
ft_stage = ab_stage
warm_up_epochs = 20
