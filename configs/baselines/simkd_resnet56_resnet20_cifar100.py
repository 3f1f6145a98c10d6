_base_ = ['./student_resnet20_cifar100.py', '../_base_/distillers/simkd.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SimKD',
    architecture=dict(
        _base_.resnet20,
        neck=[dict(_base_.simkd_neck, in_channels=64, out_channels=64), _base_.resnet20.neck],
        head=_base_.resnet56.head),
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    input_shape=(3, 32, 32),
    distiller=_base_.simkd)
