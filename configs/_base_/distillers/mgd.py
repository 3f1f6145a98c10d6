# Masked generative distillation (Yang et al., ECCV 2022): two convolutions generate the teacher's last map from
# the student's with some channels masked. 15% of the channels, weight 7e-5: the release's for classification (ImageNet).
mgd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='MGDConnector',
        student_channels='student_channels',
        teacher_channels='teacher_channels',
        lambda_mgd=0.15,
        mask_on_channel=True),
    loss=dict(type='MGDLoss', alpha_mgd=7e-5))
