_base_ = ['../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py', '../_base_/distillers/atsc.py']
model = dict(
    _scope_='mmrazor',
    type='ATSC',
    proximity=_base_.atsc_proximity,
    architecture=dict(
        _base_.student,
        neck=[
            dict(
                _base_.atsc_neck,
                in_channels=_base_.student.head.in_channels,
                out_channels=_base_.teacher.head.in_channels),
            _base_.student.neck
        ],
        head=_base_.teacher.head),
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    input_shape=_base_.input_shape,
    distiller=dict(_base_.atsc, transmitters=_base_.layers_pooled.get('transmitters', _base_.atsc.transmitters)))
