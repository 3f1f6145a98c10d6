_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/l2tww.py']
model = dict(
    _scope_='mmrazor',
    type='L2T',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(
        _base_.l2tww,
        connections=[(i, j) for i, _ in _base_.stages for _, j in _base_.stages],
        **_base_.layers_before))
optim_wrapper = _base_.l2tww_optimisers
train_cfg = _base_.l2tww_loop
