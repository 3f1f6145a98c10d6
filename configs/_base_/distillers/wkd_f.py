# WKD-F (Lv et al., NeurIPS 2024): Wasserstein distance of the Gaussians of the last maps, the student's through a 1x1
# convolution, batch norm and ReLU. Weight 0.08, factor 4 of the means and one cell: the release's for
# resnet32x4-resnet8x4; the pair sets published ones. The weight falls to 0 over the last 90 of 240 epochs.
wkd_f = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', norm_cfg=dict(type='BN')),
    loss=dict(type='GaussianWassersteinLoss', mean_ratio=4.0, loss_weight=0.08))
wkd_f_hook = dict(type='mmrazor.LossScheduleHook', shape='cosine')
