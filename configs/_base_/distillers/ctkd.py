# Curriculum temperature (CTKD; Li et al., AAAI 2023): KD at a temperature from 1 to 21 that is trained to raise the loss, more
# and more over the first 10 of 240 epochs. Weight 0.9 with a cross-entropy of 0.1: the release's.
ctkd = dict(
    type='RecorderDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='CurriculumKDLoss', loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
ctkd_head = dict(loss=dict(type='CrossEntropyLoss', loss_weight=0.1))
ctkd_hook = dict(type='mmrazor.LossScheduleHook', attribute='reversal', shape='cosine', warm_up=10 / 240)
