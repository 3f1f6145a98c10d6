# The second stage: learns the factors of the paraphraser of ft_paraphraser_resnet56_resnet20_cifar100.py.
_base_ = ['./student_resnet20_cifar100.py', '../_base_/distillers/ft.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar100/epoch_240.pth',
    input_shape=(3, 32, 32),
    distiller=dict(
        _base_.ft,
        teacher_connector=dict(
            _base_.ft.teacher_connector,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='work_dirs/ft_paraphraser_resnet56_resnet20_cifar100/epoch_30.pth',
                prefix='distiller.pair_losses.layer3>layer3.autoencoder.'))))
