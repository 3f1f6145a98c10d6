_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/norm.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=dict(
        _base_.resnet8_half,
        neck=[dict(_base_.norm_neck, in_channels=32, teacher_channels=64), _base_.resnet8_half.neck],
        head=dict(_base_.resnet8_half.head, **_base_.norm_head)),
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    distiller=_base_.norm)
