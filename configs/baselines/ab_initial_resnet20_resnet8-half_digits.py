# The first stage of ab_resnet20_resnet8-half_digits.py.
_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/ab.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    calculate_student_loss=False,
    distiller=_base_.ab)
param_scheduler = dict(T_max=5)
train_cfg = dict(max_epochs=5, val_interval=5)
