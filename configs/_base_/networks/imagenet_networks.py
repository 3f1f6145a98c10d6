# Networks for ImageNet. A config refers to one by name: _base_.resnet34.
_classifier = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'))
_head = dict(type='LinearClsHead', num_classes=1000, topk=(1, 5))

mobilenetv1 = dict(**_classifier, backbone=dict(type='MobileNetV1'), head=dict(**_head, in_channels=1024))
resnet18 = dict(**_classifier, backbone=dict(type='ResNet', depth=18), head=dict(**_head, in_channels=512))
resnet34 = dict(**_classifier, backbone=dict(type='ResNet', depth=34), head=dict(**_head, in_channels=512))
resnet50 = dict(**_classifier, backbone=dict(type='ResNet', depth=50), head=dict(**_head, in_channels=2048))
# As in mmpretrain's deit-*_pt-4xb256_in1k, without their mixing of images.
_transformer = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    neck=None,
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=.02),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.)
    ])
_token_head = dict(
    type='VisionTransformerClsHead',
    num_classes=1000,
    topk=(1, 5),
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
_vit = dict(type='VisionTransformer', img_size=224, patch_size=16)
deit_tiny = dict(
    **_transformer, backbone=dict(**_vit, arch='deit-tiny'), head=dict(**_token_head, in_channels=192))
deit_small = dict(
    **_transformer, backbone=dict(**_vit, arch='deit-small'), head=dict(**_token_head, in_channels=384))
