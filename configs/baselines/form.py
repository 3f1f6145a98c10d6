# A form of loss, by default the squared distance of the last maps; a search finds others (configs/benchmarks/forms.py).
_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/form.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(_base_.form, receivers=_base_.layers_after.get('receivers', _base_.form.receivers)))
