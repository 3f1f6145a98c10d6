_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/kdpp.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(
        _base_.kdpp,
        loss=dict(_base_.kdpp.loss, num_classes=_base_.teacher.head.num_classes, **_base_.kdpp_nd_loss),
        distill_losses=dict(loss_kl=dict(_base_.kdpp.distill_losses.loss_kl, **_base_.kdpp_kl_loss)),
        **_base_.layers_pooled))
custom_hooks = [_base_.kdpp_hooks[0], dict(_base_.kdpp_hooks[1], warm_up=_base_.kdpp_warm_up)]
