_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/scalekd.py']
model = dict(
    _scope_='mmrazor',
    type='ScaleKD',
    architecture=dict(_base_.student, head=dict(_base_.student.head, **_base_.scalekd_head)),
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(_base_.scalekd, **_base_.layers_after))
