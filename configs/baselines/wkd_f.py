_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/wkd_f.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(
        _base_.wkd_f, loss=dict(_base_.wkd_f.loss, **_base_.wkd_f_loss), **_base_.layers_after))
custom_hooks = [dict(_base_.wkd_f_hook, decay=_base_.wkd_f_decay)]
