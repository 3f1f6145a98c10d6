_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/reviewkd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(
        _base_.reviewkd,
        loss=dict(_base_.reviewkd.loss, **_base_.reviewkd_loss),
        **_base_.reviewkd_options))
custom_hooks = [dict(_base_.reviewkd_warm_up, warm_up_epochs=_base_.warm_up_epochs)]
