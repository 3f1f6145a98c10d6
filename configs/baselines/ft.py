# The second stage: learns the factors of the paraphraser of ft_paraphraser.py.
_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/ft.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(
        _base_.ft,
        teacher_connector=dict(
            _base_.ft.teacher_connector,
            init_cfg=dict(
                type='Pretrained',
                checkpoint=f'work_dirs/{_base_.pair}/ft_paraphraser/epoch_{_base_.ft_stage.train_cfg.max_epochs}.pth',
                prefix='distiller.pair_losses.0.autoencoder.')),
        **_base_.layers_after))
