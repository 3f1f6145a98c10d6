# Logit standardisation (Sun et al., CVPR 2024) on DKD: base temperature 2, both terms of DKD times 9, next to the full
# cross-entropy, as in the release; the pair sets published values. The weight rises over the first epochs, 20 of 240. The
# classifier is initialized by PyTorch's default, see lskd.py.
lskd_dkd = dict(
    type='RecorderDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='head'), labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_dkd=dict(type='StandardizedDKDLoss', alpha=1.0)),
    loss_forward_mappings=dict(
        loss_dkd=dict(
            preds_S=dict(from_student=True, recorder='head'),
            preds_T=dict(from_student=False, recorder='head'),
            gt_labels=dict(from_student=True, recorder='labels', data_idx=1))))
lskd_dkd_head = dict(init_cfg=None)
lskd_dkd_warm_up = dict(type='mmrazor.LossScheduleHook')
