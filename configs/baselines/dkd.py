_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/dkd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    distiller=dict(
        _base_.dkd, distill_losses=dict(loss_dkd=dict(_base_.dkd.distill_losses.loss_dkd, **_base_.dkd_loss))))
custom_hooks = [dict(_base_.dkd_warm_up, warm_up_epochs=_base_.warm_up_epochs)]
