# An FCN with ResNet-50 teaches an FCN with ResNet-18 on Cityscapes, with equal weights. Needs mmsegmentation (docs/dense.md),
# whose data, schedule and student it uses.
_base_ = 'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports=['distpro_mm'])
pair = 'fcn_r50_fcn_r18_cityscapes'
# Dilated stages have maps of the same size, of which 'auto' uses only the last.
layers = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DistPro',
    architecture=dict(_base_.model, _scope_='mmseg'),
    teacher=dict(
        _base_.model,
        _scope_='mmseg',
        pretrained=None,
        backbone=dict(_base_.model.backbone, depth=50),
        decode_head=dict(_base_.model.decode_head, in_channels=2048, channels=512),
        auxiliary_head=None),
    teacher_ckpt='https://download.openmmlab.com/mmsegmentation/v0.5/fcn/fcn_r50-d8_512x1024_80k_cityscapes/'
    'fcn_r50-d8_512x1024_80k_cityscapes_20200606_113019-03aa804d.pth',
    distiller=dict(
        type='DistProDistiller',
        transmitters=layers,
        receivers=layers,
        transforms=[dict(type='PointwiseTransform')]))
