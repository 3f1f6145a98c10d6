# A RetinaNet with ResNet-50 teaches a RetinaNet with ResNet-18 on COCO, with equal weights. Needs mmdetection (docs/dense.md),
# whose data, schedule and student it uses.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports=['distpro_mm'])
pair = 'retinanet_r50_retinanet_r18_coco'
# The inputs of the heads: the pyramid's maps at strides 8, 16 and 32.
layers = [
    dict(module='neck', element=0, name='p3'),
    dict(module='neck', element=1, name='p4'),
    dict(module='neck', element=2, name='p5')
]
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DistPro',
    architecture=dict(_base_.model, _scope_='mmdet'),
    teacher=dict(
        _base_.model,
        _scope_='mmdet',
        backbone=dict(_base_.model.backbone, depth=50, init_cfg=None),
        neck=dict(_base_.model.neck, in_channels=[256, 512, 1024, 2048])),
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/'
    'retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth',
    distiller=dict(
        type='DistProDistiller',
        transmitters=layers,
        receivers=layers,
        transforms=[dict(type='PointwiseTransform')]))
