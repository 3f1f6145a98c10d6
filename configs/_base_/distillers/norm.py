# NORM (Liu et al., ICLR 2023): the student's last map, expanded eightfold inside the student, against the teacher's. The
# cross-entropy has weight 0.1, as in the example of the release's README, which tunes that weight from 0.0625 to 0.5 for
# every pair. norm.py puts the neck between the student's backbone and pooling.
norm = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers=[dict(module='neck.0.expand', name='expanded')],
    connections=[(-1, 0)],
    loss=dict(type='NORMLoss'))
norm_neck = dict(type='NORMNeck', segments=8)
norm_head = dict(loss=dict(type='CrossEntropyLoss', loss_weight=0.1))
