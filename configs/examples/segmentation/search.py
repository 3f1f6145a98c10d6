# Stage 1: search a process on 80% of the training images, updating alpha by the segmentation loss on the other 20%.
_base_ = './equal.py'
epochs = 40
train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))  # a search goes by epochs
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=epochs, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(_delete_=True, type='mmrazor.DistProOneStepSearchLoop', max_epochs=epochs, val_interval=epochs)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(_delete_=True, type='mmrazor.AtomicCheckpointHook', interval=1, max_keep_ckpts=1))
