# Multi-level logit distillation (Jin et al., CVPR 2023): images, batch and classes, at temperatures 2 to 6. Weight 0.9 beside a
# cross-entropy of 0.1: the release's, which halves three of its terms, has a second, strongly augmented view, and trains at a
# quarter of our learning rate. One view here.
mlkd = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
    teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
    distill_losses=dict(loss_levels=dict(type='MultiLevelLogitLoss', loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_levels=dict(preds_S=dict(from_student=True, recorder='fc'), preds_T=dict(from_student=False, recorder='fc'))))
mlkd_cross_entropy = dict(type='CrossEntropyLoss', loss_weight=0.1)
