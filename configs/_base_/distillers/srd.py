# The simple recipe of Miles and Mikolajczyk (AAAI 2024): one linear layer from the student's features before the classifier,
# batch norm of both, log of the sum of the errors' fourth powers; and KD at temperature 1. Weights 2 and 1: the release's
# for ResNets on ImageNet. The release has no code for CIFAR-100.
srd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=dict(type='EmbeddingConnector', in_channels='student_channels', out_channels='teacher_channels'),
    teacher_connector=dict(
        type='EmbeddingConnector', in_channels='teacher_channels', out_channels='teacher_channels', if_different=True),
    loss=dict(type='SRDLoss', channels='teacher_channels', loss_weight=2.0),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1, loss_weight=1.0)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
