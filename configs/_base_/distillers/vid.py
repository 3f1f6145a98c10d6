# Variational information distillation (Ahn et al., CVPR 2019): the likelihood of the teacher's maps, after every stage,
# under a Gaussian whose mean is regressed from the student's maps by three 1x1 convolutions. Weight 1, initial variance 5:
# RepDistiller's.
vid = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
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
