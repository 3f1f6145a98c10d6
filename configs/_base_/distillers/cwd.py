# Channel-wise distillation (Shu et al., ICCV 2021): divergence of every channel's distribution over the pixels of the last
# map. Made for segmentation: temperature 1 and weight 5 are mmrazor's for that, not tuned for classification.
cwd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', act_cfg=None),
    loss=dict(type='ChannelWiseDivergence', tau=1, loss_weight=5.0))
