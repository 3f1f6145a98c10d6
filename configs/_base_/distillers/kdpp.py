# KD++ (Wang et al., 2023; ECCV 2024): KD, and a loss of the norm and direction of the features before the classifier.
# Weights 1 (KD) and 2, temperature 4: the release's for resnet56-resnet20; the pair sets published ones. Only the weight of
# KD rises over the first epochs, 20 of 240. If the widths differ, the student's features are projected.
kdpp = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=dict(
        type='EmbeddingConnector', in_channels='student_channels', out_channels='teacher_channels', if_different=True),
    teacher_connector=dict(
        type='EmbeddingConnector', in_channels='teacher_channels', out_channels='teacher_channels', if_different=True),
    loss=dict(type='NormDirectionLoss', channels='teacher_channels', loss_weight=2.0),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=1.0)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
kdpp_hooks = [
    dict(type='mmrazor.TeacherClassesHook'),
    dict(type='mmrazor.LossScheduleHook', losses=['loss_kl'])
]
