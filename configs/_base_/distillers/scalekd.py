# ScaleKD (Fan et al., NeurIPS 2024): cross-attention from the student's last two maps to the teacher's, whose last stage runs on
# the first of them; spatial and frequency view, 0.08 and 0.06; KD at temperature 1. Cross-entropy and KD have the weight 0.5
# each. The release's, for Swin teachers on ImageNet, where the release has the cross-entropy of both predictions for KD, whose
# gradient is the same.
scalekd = dict(
    type='ScaleKDDistiller',
    weights=dict(spatial=0.08, frequency=0.06),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1, loss_weight=0.5)),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
scalekd_head = dict(loss=dict(type='CrossEntropyLoss', loss_weight=0.5))
