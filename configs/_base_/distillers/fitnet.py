# FitNet (Romero et al., ICLR 2015) in one stage: mean squared error of the second stage's maps, the student's through a
# convolution, batch norm and ReLU. Layer and weight 100: RepDistiller's.
fitnet = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-2, -2)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', norm_cfg=dict(type='BN')),
    loss=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=100.0))
