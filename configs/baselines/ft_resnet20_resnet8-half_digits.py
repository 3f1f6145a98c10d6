# The second stage: learns the factors of the paraphraser of ft_paraphraser_resnet20_resnet8-half_digits.py.
_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/ft.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    distiller=dict(
        _base_.ft,
        teacher_connector=dict(
            _base_.ft.teacher_connector,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='work_dirs/ft_paraphraser_resnet20_resnet8-half_digits/epoch_10.pth',
                prefix='distiller.pair_losses.layer3>layer3.autoencoder.'))))
