_base_ = ['./student_resnet8-half_digits.py', '../_base_/distillers/crd.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.resnet8_half,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/resnet20_digits/epoch_60.pth',
    input_shape=(1, 8, 8),
    distiller=dict(_base_.crd, loss=dict(_base_.crd.loss, sample_n=300, neg_num=250)))
