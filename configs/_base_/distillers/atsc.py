# ATSC (2024): SimKD's projector and loss with a teacher that is trained too, near its initial weights, and a classifier that both
# share. Weight 1, and inner channels half of the teacher's: the release's. The pair sets the weight of the distance from the
# initial teacher. atsc.py puts the neck between the student's backbone and pooling.
atsc = dict(
    type='PairDistiller',
    transmitters=[dict(module='auto', before_activation=False)],
    receivers=[dict(module='neck.0.layers', before_activation=False, name='projected')],
    connections=[(-1, 0)],
    compare_at='smaller',
    loss=dict(type='L2Loss', normalize=False, div_element=True))
atsc_neck = dict(type='SimKDNeck', factor=2)
