# The residual networks of the distillation literature for CIFAR-100. A config picks one by name: _base_.resnet56.
_narrow = dict(
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=100, in_channels=64))
_wide = dict(
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=100, in_channels=256))
_x4 = dict(stem_channels=32, channels=(64, 128, 256))
_classifier = dict(_scope_='mmpretrain', type='ImageClassifier')

resnet8 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=8), **_narrow)
resnet14 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=14), **_narrow)
resnet20 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=20), **_narrow)
resnet32 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=32), **_narrow)
resnet44 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=44), **_narrow)
resnet56 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=56), **_narrow)
resnet110 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=110), **_narrow)
resnet8x4 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=8, **_x4), **_wide)
resnet32x4 = dict(**_classifier, backbone=dict(type='CIFARResNet', depth=32, **_x4), **_wide)
