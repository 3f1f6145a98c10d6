_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/ctkd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=dict(_base_.student, head=dict(_base_.student.head, **_base_.ctkd_head)),
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    distiller=_base_.ctkd)
custom_hooks = [_base_.ctkd_hook]
