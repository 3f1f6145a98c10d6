# The schedule of the distillation literature and of DistPro's release.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=240, val_interval=20)
