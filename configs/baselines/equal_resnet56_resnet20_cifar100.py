# All pathways of DistPro at one constant weight (10/11 each): what distilling without a process gives.
_base_ = './student_resnet20_cifar100.py'
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DistPro',
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    input_shape=(3, 32, 32),
    distiller=dict(type='DistProDistiller'))
