# The first stage of ab.py.
_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/ab.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    calculate_student_loss=False,
    distiller=dict(
        _base_.ab,
        connections=_base_.stages,
        weights=[0.5**place for place in reversed(range(len(_base_.stages)))],
        **_base_.layers_before))
param_scheduler = _base_.ab_stage.param_scheduler
train_cfg = _base_.ab_stage.train_cfg
