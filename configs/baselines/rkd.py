_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/rkd.py']
model = dict(
    _scope_='mmrazor',
    type='TapDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    distiller=dict(
        _base_.rkd,
        teacher_recorders=dict(features=dict(type='ModuleOutputs', source=_base_.feature_modules[0])),
        student_recorders=dict(features=dict(type='ModuleOutputs', source=_base_.feature_modules[1]))))
