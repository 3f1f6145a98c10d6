# PURSUhInT (2021), a reconstruction after the abstract: the teacher's blocks in three clusters by linear CKA, and the medoid of each
# as the hint for a layer of the student, in the order of their depths. Each pair is compared as in fitnet.py; with a third of its
# weight for each of three, which is ours; and KD, as in kd.py.
_base_ = './kd.py'
pursuhint = dict(
    _base_.kd,
    type='PairDistiller',
    transmitters=dict(type='clustered', metric='cka', k=3),
    receivers='auto',
    connections=[(0, -3), (1, -2), (2, -1)],
    compare_at='smaller',
    student_connector=dict(
        type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', norm_cfg=dict(type='BN')),
    loss=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=33.0))
