# Decoupled knowledge distillation (Zhao et al., CVPR 2022): temperature 4, alpha 1. The pair sets beta; the release
# (mdistiller) has 0.5 to 8. The weight rises over the first epochs, 20 of 240.
dkd = dict(
    type='RecorderDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='head'), labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_dkd=dict(type='DecoupledKDLoss', tau=4, alpha=1.0)),
    loss_forward_mappings=dict(
        loss_dkd=dict(
            preds_S=dict(from_student=True, recorder='head'),
            preds_T=dict(from_student=False, recorder='head'),
            gt_labels=dict(from_student=True, recorder='labels', data_idx=1))))
dkd_warm_up = dict(type='mmrazor.LossScheduleHook')
