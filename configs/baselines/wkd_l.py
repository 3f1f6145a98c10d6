_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/wkd_l.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    distiller=dict(
        _base_.wkd_l,
        distill_losses=dict(
            loss_wkd=dict(
                _base_.wkd_l.distill_losses.loss_wkd,
                num_classes=_base_.teacher.head.num_classes,
                **_base_.wkd_l_loss))))
custom_hooks = [_base_.wkd_l_hooks[0], dict(_base_.wkd_l_hooks[1], decay=_base_.wkd_l_decay)]
