# The networks of the distillation literature for CIFAR-100. A config refers to one by name: _base_.resnet56.
_classifier = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'))
_head = dict(type='LinearClsHead', num_classes=100)
_narrow = dict(head=dict(**_head, in_channels=64))
_x4 = dict(stem_channels=32, channels=(64, 128, 256))
_wide = dict(head=dict(**_head, in_channels=256))
_vgg = dict(head=dict(**_head, in_channels=512))

resnet8 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=8), **_narrow)
resnet14 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=14), **_narrow)
resnet20 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=20), **_narrow)
resnet32 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=32), **_narrow)
resnet44 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=44), **_narrow)
resnet56 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=56), **_narrow)
resnet110 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=110), **_narrow)
resnet8x4 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=8, **_x4), **_wide)
resnet32x4 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=32, **_x4), **_wide)

wrn_16_1 = dict(**_classifier, backbone=dict(type='CIFARWideResNet', depth=16, widen_factor=1), **_narrow)
wrn_16_2 = dict(
    **_classifier,
    backbone=dict(type='CIFARWideResNet', depth=16, widen_factor=2),
    head=dict(**_head, in_channels=128))
wrn_16_4 = dict(**_classifier, backbone=dict(type='CIFARWideResNet', depth=16, widen_factor=4), **_wide)
wrn_28_2 = dict(
    **_classifier,
    backbone=dict(type='CIFARWideResNet', depth=28, widen_factor=2),
    head=dict(**_head, in_channels=128))
wrn_28_4 = dict(**_classifier, backbone=dict(type='CIFARWideResNet', depth=28, widen_factor=4), **_wide)
wrn_40_1 = dict(**_classifier, backbone=dict(type='CIFARWideResNet', depth=40, widen_factor=1), **_narrow)
wrn_40_2 = dict(
    **_classifier,
    backbone=dict(type='CIFARWideResNet', depth=40, widen_factor=2),
    head=dict(**_head, in_channels=128))

# DistPro's release: alpha 240 with bottlenecks, and alpha 84 without.
pyramidnet200 = dict(
    **_classifier,
    backbone=dict(type='CIFARPyramidNet', depth=200, alpha=240),
    head=dict(**_head, in_channels=1024))
pyramidnet110 = dict(
    **_classifier,
    backbone=dict(type='CIFARPyramidNet', depth=110, alpha=84, bottleneck=False),
    head=dict(**_head, in_channels=100))

vgg8 = dict(**_classifier, backbone=dict(type='CIFARVGG', depth=8), **_vgg)
vgg11 = dict(**_classifier, backbone=dict(type='CIFARVGG', depth=11), **_vgg)
vgg13 = dict(**_classifier, backbone=dict(type='CIFARVGG', depth=13), **_vgg)
vgg16 = dict(**_classifier, backbone=dict(type='CIFARVGG', depth=16), **_vgg)
vgg19 = dict(**_classifier, backbone=dict(type='CIFARVGG', depth=19), **_vgg)

mobilenetv2_half = dict(
    **_classifier, backbone=dict(type='CIFARMobileNetV2', widen_factor=0.5), head=dict(**_head, in_channels=1280))
shufflenetv1 = dict(**_classifier, backbone=dict(type='CIFARShuffleNetV1'), head=dict(**_head, in_channels=960))
shufflenetv2 = dict(**_classifier, backbone=dict(type='CIFARShuffleNetV2'), head=dict(**_head, in_channels=1024))
# mmpretrain's own, as in the literature, except that mmpretrain initializes the last batch norms to zero.
resnet50_cifar = dict(
    **_classifier,
    backbone=dict(type='ResNet_CIFAR', depth=50, zero_init_residual=False),
    head=dict(**_head, in_channels=2048))
