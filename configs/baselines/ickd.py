_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/ickd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(_base_.ickd, loss=dict(_base_.ickd.loss, num_classes=_base_.teacher.head.num_classes)))
custom_hooks = [dict(type='mmrazor.TeacherClassesHook', **_base_.ickd_bank)]
