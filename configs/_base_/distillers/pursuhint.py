# PURSUhInT (2021), a reconstruction after the abstract: the teacher's blocks in three clusters by linear CKA, and the medoid of each
# as the hint for a layer of the student, in the order of their depths. Each pair is compared as in fitnet.py; with a third of its
# weight for each of three, which is ours; and KD, as in kd.py.
pursuhint = dict(
    type='PairDistiller',
    transmitters=dict(type='clustered', metric='cka', k=3),
    receivers='auto',
    connections=[(0, -3), (1, -2), (2, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', norm_cfg=dict(type='BN')),
    loss=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=33.0),
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_kl=dict(preds_S=dict(from_student=True, recorder='head'), preds_T=dict(from_student=False, recorder='head'))))
