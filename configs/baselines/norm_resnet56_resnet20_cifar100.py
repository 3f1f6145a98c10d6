_base_ = ['./student_resnet20_cifar100.py', '../_base_/distillers/norm.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=dict(
        _base_.resnet20,
        neck=[dict(_base_.norm_neck, in_channels=64, teacher_channels=64), _base_.resnet20.neck],
        head=dict(_base_.resnet20.head, **_base_.norm_head)),
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    input_shape=(3, 32, 32),
    distiller=_base_.norm)
