# Stage 1: search a process in whole short trainings on 80% of the training images, by the loss on the other 20% at their end.
_base_ = './equal.py'
param_scheduler = _base_.round_stage.param_scheduler
train_cfg = dict(
    _base_.round_stage.train_cfg, _delete_=True, type='mmrazor.DistProWholeRunLoop', rounds=3, knots=4, rise=3.0, step_size=0.7)
