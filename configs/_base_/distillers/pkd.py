# Pearson correlation distillation (Cao et al., NeurIPS 2022): 1 - r of every channel of the last map over batch and
# pixels. Made for detectors' necks of equal widths, hence the convolution: weight 6 is mmrazor's for detectors, not
# tuned for classification.
pkd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', act_cfg=None),
    loss=dict(type='PKDLoss', loss_weight=6.0))
