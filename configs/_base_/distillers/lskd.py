# Logit standardisation (Sun et al., CVPR 2024) on KD: base temperature 2, weight 9 with a cross-entropy of 0.1, as in
# the release (which has temperature 3 or weights up to 15 for some pairs). The loss divides by the standard deviation of the
# logits, which mmpretrain initializes close to 0, so that the first steps would be too large. The classifier is therefore
# initialized by PyTorch's default, like that of the release.
lskd = dict(
    type='RecorderDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='StandardizedKLDivergence', tau=2, loss_weight=9.0)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
lskd_head = dict(init_cfg=None, loss=dict(type='CrossEntropyLoss', loss_weight=0.1))
