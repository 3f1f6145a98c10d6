# SimKD (Chen et al., CVPR 2022): the student's last map, projected, against the teacher's, by mean squared error alone;
# the teacher's classifier is reused. simkd.py puts the neck between the student's backbone and pooling.
simkd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers=[dict(module='neck.0.layers', name='projected')],
    connections=[(-1, 0)],
    compare_at='smaller',
    loss=dict(type='L2Loss', normalize=False, div_element=True))
simkd_neck = dict(type='SimKDNeck', factor=2)
