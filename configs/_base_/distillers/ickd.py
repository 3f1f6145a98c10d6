# In-context sample retrieval (Zhu et al., 2025), a reconstruction after the abstract: the student's logits against those of the
# teacher for similar training images of the same class, and away from those of other classes; and KD, as in kd.py. 8 positives
# and 8 negatives, weights 1 and 1: ours.
ickd = dict(
    type='InContextDistiller',
    loss=dict(type='InContextLoss', positives=8, negatives=8, weights=(1.0, 1.0)),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
