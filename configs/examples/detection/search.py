# Stage 1: search a process on 80% of the training images, updating alpha by the detection losses on the other 20%.
_base_ = './equal.py'
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
train_cfg = dict(_delete_=True, type='mmrazor.DistProOneStepSearchLoop', max_epochs=12, val_interval=12)
default_hooks = dict(checkpoint=dict(_delete_=True, type='mmrazor.AtomicCheckpointHook', interval=1, max_keep_ckpts=1))
