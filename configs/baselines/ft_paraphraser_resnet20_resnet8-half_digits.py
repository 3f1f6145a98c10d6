# The first stage of ft_resnet20_resnet8-half_digits.py: trains the paraphraser alone, at RepDistiller's learning rate.
_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/ft.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    calculate_student_loss=False,
    student_trainable=False,
    distiller=_base_.ft_paraphraser)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(T_max=10)
train_cfg = dict(max_epochs=10, val_interval=10)
