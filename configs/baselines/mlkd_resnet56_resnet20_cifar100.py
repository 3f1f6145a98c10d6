_base_ = ['./student_resnet20_cifar100.py', '../_base_/distillers/mlkd.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(_base_.resnet20, head=dict(_base_.resnet20.head, **_base_.mlkd_head)),
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    distiller=_base_.mlkd)
