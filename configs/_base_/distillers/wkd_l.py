# WKD-L (Lv et al., NeurIPS 2024): transport of the softened predictions, with costs from the teacher's features of each
# class. Weight 600 at temperature 8, sharpness 1, regularisation 0.05 and 10 iterations: the release's for
# resnet32x4-resnet8x4; the pair sets published ones. The weight falls to 0 over the last 90 of 240 epochs.
wkd_l = dict(
    type='RecorderDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='head'), labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_wkd=dict(type='WassersteinLogitLoss', tau=8, loss_weight=600.0)),
    loss_forward_mappings=dict(
        loss_wkd=dict(
            preds_S=dict(from_student=True, recorder='head'),
            preds_T=dict(from_student=False, recorder='head'),
            gt_labels=dict(from_student=True, recorder='labels', data_idx=1))))
wkd_l_hooks = [dict(type='mmrazor.TeacherClassesHook'), dict(type='mmrazor.LossScheduleHook', shape='cosine')]
