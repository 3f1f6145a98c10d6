_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/mlkd.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(_base_.resnet8_half, head=dict(_base_.resnet8_half.head, **_base_.mlkd_head)),
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    distiller=_base_.mlkd)
