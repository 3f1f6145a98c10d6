# One form of a loss of feature maps (KD-Zero, NeurIPS 2023; Auto-KD, ICCV 2023): three transformations of both maps, a distance
# and a weight, which a search chooses by name (configs/benchmarks/forms.py); and KD, as in kd.py. The layers and connectors are
# those of fitnet.py. The form below is the plain squared distance; all of it is ours, because neither release has been published.
_base_ = './kd.py'
form = dict(
    _base_.kd,
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', norm_cfg=dict(type='BN')),
    loss=dict(type='FormLoss', transformations=['none', 'none', 'none'], distance='l2', loss_weight=1.0))
