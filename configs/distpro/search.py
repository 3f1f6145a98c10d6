# Stage 1: search a process in short trainings on 80% of the training images, by their final loss on the other 20%. It begins
# from the process 'general' of the package: it is compared with plain KD and the student alone, and refined once.
_base_ = './equal.py'
train_cfg = dict(
    _delete_=True,
    type='mmrazor.DistProSearchLoop',
    max_epochs=_base_.train_cfg.max_epochs,
    round_share=_base_.round_share,
    min_iterations=200,
    rounds=2,  # trained with twice: before and after one change
    knots=4,
    initial='general',
    searcher=dict(type='RpropSearcher'))
