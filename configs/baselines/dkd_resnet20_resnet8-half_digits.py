_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/dkd.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    distiller=_base_.dkd)
custom_hooks = [dict(_base_.dkd_warm_up, epochs=2)]
