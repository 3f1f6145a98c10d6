# DistPro as published, stage 1: trains the student on 80% of the training images, and updates alpha after every step by
# the effect of the step on the loss on the other 20%.
_base_ = '../baselines/equal.py'
model = dict(distiller=_base_.published_layers)
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
param_scheduler = _base_.search_stage.param_scheduler
train_cfg = dict(_base_.search_stage.train_cfg, _delete_=True, type='mmrazor.DistProOneStepSearchLoop')
