# Weighted soft labels (Zhou et al., ICLR 2021): an image on which the student does well has a lower weight.
# Temperature 2, weight 2.5: the release's, which is for ImageNet.
wsld = dict(
    type='RecorderDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='head'), labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_wsld=dict(type='WSLDLoss', tau=2, loss_weight=2.5)),
    loss_forward_mappings=dict(
        loss_wsld=dict(
            student=dict(from_student=True, recorder='head'),
            teacher=dict(from_student=False, recorder='head'),
            gt_labels=dict(from_student=True, recorder='labels', data_idx=1))))
