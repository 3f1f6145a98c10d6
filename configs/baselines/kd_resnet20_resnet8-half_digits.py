# Plain knowledge distillation (Hinton et al., 2015), all mmrazor's own: cross-entropy and the divergence of the softened
# logits at temperature 4.
_base_ = './student_resnet8-half_digits.py'
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='fc'), preds_T=dict(from_student=False, recorder='fc')))))
