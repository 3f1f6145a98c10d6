# The first stage of ft.py: trains the paraphraser alone, at RepDistiller's learning rate.
_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/ft.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    calculate_student_loss=False,
    student_trainable=False,
    distiller=dict(_base_.ft_paraphraser, **_base_.layers_after))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = _base_.ft_stage.param_scheduler
train_cfg = _base_.ft_stage.train_cfg
