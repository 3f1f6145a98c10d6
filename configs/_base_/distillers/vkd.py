# VkD (Miles et al., CVPR 2024): an orthogonal projection of the student's features before the classifier against the layer
# norm of the teacher's; and KD at temperature 1. Weights 1 and 1: the release's, which is for transformers on ImageNet.
vkd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=dict(type='OrthogonalConnector', in_channels='student_channels', out_channels='teacher_channels'),
    teacher_connector=dict(
        type='EmbeddingConnector', in_channels='teacher_channels', out_channels='teacher_channels', if_different=True),
    loss=dict(type='VkDLoss', loss_weight=1.0),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1, loss_weight=1.0)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
