# All pathways of DistPro at one constant weight: what distilling without a process gives.
_base_ = './student_resnet8-half_digits.py'
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DistPro',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    distiller=dict(
        type='DistProDistiller',
        connections='student_not_shallower',
        transforms=[dict(type='PointwiseTransform')],
        # kd_weight: of 0.1, 0.3, 1, 3 and 10 the best for equal weights on training images that are not used here.
        weighting=dict(type='biased_softmax', bias=1.0, scale='num_pathways', kd_weight=3.0)))
