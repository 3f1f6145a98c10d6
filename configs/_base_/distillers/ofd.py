# A comprehensive overhaul of feature distillation (Heo et al., ICCV 2019): features before the activation, the teacher's
# through a margin ReLU, partial L2 distance. Weights halved from stage to stage, divided by 1000, as in the release.
ofd = dict(
    type='PairDistiller',
    transmitters=[dict(module='auto', before_activation=True)],
    receivers=[dict(module='auto', before_activation=True)],
    connections=[(-3, -3), (-2, -2), (-1, -1)],
    weights=[0.25, 0.5, 1.0],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector',
        in_channel='student_channels',
        out_channel='teacher_channels',
        norm_cfg=dict(type='BN'),
        act_cfg=None),
    teacher_connector=dict(type='MarginOFDTeacherConnector', channels='teacher_channels'),
    loss=dict(type='OFDLoss', mul_factor=1000.0))
