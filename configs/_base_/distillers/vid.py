# Variational information distillation (Ahn et al., CVPR 2019): the likelihood of the teacher's maps under a Gaussian
# whose mean three 1x1 convolutions regress from the student's, after every stage. Weight 1, variance 5 at the start:
# RepDistiller's.
vid = dict(
    type='PairDistiller',
    transmitters=[dict(module='auto', before_activation=False)],
    receivers=[dict(module='auto', before_activation=False)],
    connections=[(-3, -3), (-2, -2), (-1, -1)],
    compare_at='smaller',
    student_connector=[
        dict(type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', bias=False),
        dict(type='ConvModuleConnector', in_channel='teacher_channels', out_channel='teacher_channels', bias=False),
        dict(
            type='ConvModuleConnector',
            in_channel='teacher_channels',
            out_channel='teacher_channels',
            bias=False,
            act_cfg=None)
    ],
    loss=dict(type='VIDLoss', channels='teacher_channels'))
