# Stage 1: search a process on 80% of the training images, moving alpha by the loss on the other 20%.
_base_ = '../baselines/equal.py'
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
param_scheduler = _base_.search_stage.param_scheduler
train_cfg = dict(_base_.search_stage.train_cfg, _delete_=True, type='mmrazor.DistProSearchLoop')
