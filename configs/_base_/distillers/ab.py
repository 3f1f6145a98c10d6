# Activation boundaries (Heo et al., AAAI 2019), the first of two stages: without the cross-entropy the student learns on
# which side of zero the teacher's features before the activation lie. Margin 1, halved from stage to stage, times 3 /
# 1000: the release's. The second stage continues from these weights without this loss (RepDistiller) or with KD.
ab = dict(
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
    loss=dict(type='ABLoss', margin=1.0))
