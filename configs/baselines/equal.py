# All pathways of DistPro with the same constant weight: distillation without a process.
_base_ = '../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py'
model = dict(
    _scope_='mmrazor',
    type='DistPro',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=_base_.distpro)
