# The first stage of ft_resnet56_resnet20_cifar100.py: trains the paraphraser alone, at RepDistiller's learning rate.
_base_ = ['./student_resnet20_cifar100.py', '../_base_/distillers/ft.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    input_shape=(3, 32, 32),
    calculate_student_loss=False,
    student_trainable=False,
    distiller=_base_.ft_paraphraser)
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg = dict(max_epochs=30, val_interval=30)
