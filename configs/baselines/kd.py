_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/kd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    distiller=dict(
        _base_.kd, distill_losses=dict(loss_kl=dict(_base_.kd.distill_losses.loss_kl, **_base_.kd_loss))))
