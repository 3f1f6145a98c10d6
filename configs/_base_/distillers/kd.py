# Plain knowledge distillation (Hinton et al., 2015), with mmrazor's recorders and loss: the cross-entropy plus the divergence of the
# softened logits at temperature 4. A config refers to it by name: _base_.kd.
kd = dict(
    type='RecorderDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
