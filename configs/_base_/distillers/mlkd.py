# Multi-level logit distillation (Jin et al., CVPR 2023): images, batch and classes, at temperatures 2 to 6. Weight 0.45
# with a cross-entropy of 0.1: equal to the release's terms of the plain view, 0.9 times the half of the images (classes)
# of which the teacher is less sure. The release's second, strongly augmented view is left out. Its learning rate is 0.025.
mlkd = dict(
    type='RecorderDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_levels=dict(type='MultiLevelLogitLoss', loss_weight=0.45)),
    loss_forward_mappings=dict(
        loss_levels=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
mlkd_head = dict(loss=dict(type='CrossEntropyLoss', loss_weight=0.1))
