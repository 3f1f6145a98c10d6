# Stage 1: search a process in short trainings on 80% of the training images, by their final loss on the other 20%. It begins
# from the process 'general' of the package: first its level is searched for, then it is refined.
_base_ = './equal.py'
train_cfg = dict(
    _delete_=True,
    type='mmrazor.DistProSearchLoop',
    max_epochs=_base_.train_cfg.max_epochs,
    round_share=_base_.round_share,
    min_iterations=200,
    rounds=3,
    knots=4,
    initial='general',
    searcher=dict(type='RpropSearcher'))
