"""Settings that differ in data, pair, optimiser, batch size and pathways. All run the same methods with their defaults."""
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from data import make_cifar, make_digits, make_shapes
from machine import ROOT

CIFAR = os.environ.get('CIFAR100_FOLDER', 'data/cifar100')
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4)
SGD_HIGH = dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
ADAMW = dict(type='AdamW', lr=2e-3, weight_decay=0.05)
RAMP = dict(progress=[0, 0.5, 1], weights=dict(features=[1, 10, 100], logits=[0.3, 3, 30]))
POINTWISE = dict(type='PointwiseTransform')


def constant(features: float, logits: float) -> dict:
    """A process by hand: one weight of all features, and one of the logits."""
    return dict(unit='variance', progress=[0, 1], weights=dict(features=[features] * 2, logits=[logits] * 2))


def classifier(backbone: dict, channels: int, pooled: bool = True) -> dict:
    """Config of a classifier without the number of classes, which the setting adds."""
    neck = dict(neck=dict(type='GlobalAveragePooling')) if pooled else {}
    return dict(_scope_='mmpretrain', type='ImageClassifier', backbone=backbone, **neck,
                head=dict(type='LinearClsHead', in_channels=channels, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))


def cifar_resnet(depth: int, width: int = 16, **kwargs) -> dict:
    """ResNet of the CIFAR literature."""
    return classifier(dict(type='CIFARResNet', depth=depth, stem_channels=width,
                           channels=(width, 2 * width, 4 * width), **kwargs), 4 * width)


def resnet18(width: int) -> dict:
    """mmpretrain's ResNet-18 for small images."""
    return classifier(dict(type='ResNet_CIFAR', depth=18, base_channels=width, stem_channels=width), 8 * width)


MOBILENET = classifier(dict(type='MobileNetV2', widen_factor=0.5), 1280)
VIT = classifier(dict(type='VisionTransformer', img_size=32, patch_size=4, out_type='cls_token', with_cls_token=True,
                      arch=dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)), 48, pooled=False)
VIT_64 = classifier(dict(VIT['backbone'], img_size=64, patch_size=8), 48, pooled=False)
WRN = classifier(dict(type='CIFARWideResNet', depth=16, widen_factor=2), 128)
VGG8, VGG11 = (classifier(dict(type='CIFARVGG', depth=depth), 512) for depth in (8, 11))
SHUFFLENET = classifier(dict(type='CIFARShuffleNetV2'), 1024)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A pair on a data set.

    Args:
        data (Callable): Makes the images of 'train', 'val' and 'test'.
        size (tuple): [C, H, W].
        classes (int): Number of classes.
        teacher (dict): Config of the teacher.
        student (dict): Config of the student.
        epochs (int): Epochs of the student.
        teacher_epochs (int): Epochs of the teacher.
        batch_size (int): Images a step.
        optimizer (dict): Optimiser of the student.
        teacher_optimizer (dict, optional): That of the teacher. Defaults to None: the student's, or SGD in place of AdamW.
        distiller (dict): Changes of the default distiller.
        teacher_part (str): Images that the teacher is trained on. Defaults to 'train'.
        library (str): Name of the package's process that was searched in this setting. Defaults to '': there is none.
        for_choosing (bool): Whether the 'val' images may be used to choose defaults of the package. Other settings run once.
    """
    data: Callable[[], dict]
    size: tuple[int, int, int]
    classes: int
    teacher: dict
    student: dict
    epochs: int
    teacher_epochs: int
    batch_size: int
    optimizer: dict = dataclasses.field(default_factory=lambda: SGD)
    teacher_optimizer: dict | None = None
    distiller: dict = dataclasses.field(default_factory=dict)
    teacher_part: str = 'train'
    library: str = ''
    for_choosing: bool = False


def _shapes(side: int, count: int) -> dict:
    """Data of a setting: ``count`` training images of shapes; the teacher has seen 2,000 others."""
    return dict(data=functools.partial(make_shapes, side, (count, 500, 1000, 2000)), size=(3, side, side), classes=5,
                teacher_epochs=8, teacher_part='teacher')


def _cifar(side: int, classes: int, per_class: int, **kwargs) -> dict:
    """Data of a setting: ``per_class`` training images of some classes of CIFAR-100."""
    return dict(data=functools.partial(make_cifar, CIFAR, side, classes, per_class), size=(3, side, side), classes=classes,
                teacher_epochs=15, **kwargs)


RESNET8, RESNET14, RESNET20 = (cifar_resnet(depth) for depth in (8, 14, 20))
ALL = dict(connections='all')
TWO_TRANSFORMS = dict(transforms=[POINTWISE, dict(type='AttentionTransform')])

SETTINGS: dict[str, Setting] = dict(
    digits=Setting(
        data=make_digits, size=(1, 8, 8), classes=10, teacher=cifar_resnet(20, in_channels=1),
        student=cifar_resnet(8, 8, in_channels=1), epochs=20, teacher_epochs=60, batch_size=50,
        optimizer=dict(SGD_HIGH, lr=0.05), library='digits/resnet20-resnet8', for_choosing=True),
    shapes300_mobilenet=Setting(
        **_shapes(32, 300), teacher=resnet18(8), student=MOBILENET, epochs=30, batch_size=32, for_choosing=True),
    shapes300_vit=Setting(
        **_shapes(32, 300), teacher=resnet18(8), student=VIT, epochs=30, batch_size=32, optimizer=ADAMW,
        library='shapes-32px/resnet18-vit', for_choosing=True),
    cifar12_resnet8=Setting(
        **_cifar(12, 100, 50), teacher=RESNET20, student=RESNET8, epochs=7, batch_size=128, optimizer=SGD_HIGH,
        library='cifar100-12px/resnet20-resnet8', for_choosing=True),
    cifar16_vgg8_adamw=Setting(
        **_cifar(16, 10, 100), teacher=VGG11, student=VGG8, epochs=4, batch_size=16, optimizer=ADAMW,
        library='cifar100-16px/vgg11-vgg8', for_choosing=True),
    cifar16_resnet14=Setting(
        **_cifar(16, 20, 150), teacher=RESNET20, student=RESNET14, epochs=6, batch_size=64, optimizer=SGD_HIGH,
        distiller=ALL, library='cifar100-16px/resnet20-resnet14'),
    shapes300_mobilenet_64=Setting(
        **_shapes(64, 300), teacher=resnet18(8), student=MOBILENET, epochs=15, batch_size=16),
    shapes300_resnet=Setting(
        **_shapes(32, 300), teacher=resnet18(12), student=resnet18(6), epochs=30, batch_size=32,
        for_choosing=True),
    shapes1500_vit_64=Setting(
        **_shapes(64, 1500), teacher=resnet18(6), student=VIT_64, epochs=6, batch_size=32, optimizer=ADAMW),
    cifar24_resnet8=Setting(
        **_cifar(24, 10, 250), teacher=RESNET14, student=RESNET8, epochs=7, batch_size=64, optimizer=SGD_HIGH,
        library='cifar100-24px/resnet14-resnet8'),
    cifar12_wrn_adamw=Setting(
        **_cifar(12, 100, 50), teacher=WRN, student=RESNET8, epochs=4, batch_size=64, optimizer=ADAMW,
        distiller=TWO_TRANSFORMS, library='cifar100-12px/wrn-16-2-resnet8'),
    shapes300_resnet_by_vit=Setting(
        **{**_shapes(32, 300), 'teacher_epochs': 40}, teacher=VIT, student=resnet18(6), epochs=30, batch_size=32,
        teacher_optimizer=ADAMW),
    cifar32_resnet8=Setting(
        **_cifar(32, 20, 150), teacher=RESNET20, student=RESNET8, epochs=6, batch_size=64, optimizer=SGD_HIGH,
        library='cifar100-32px/resnet32x4-resnet8x4'),
    cifar12_shufflenet=Setting(
        **_cifar(12, 10, 150), teacher=RESNET14, student=SHUFFLENET, epochs=3, batch_size=16))


def with_classes(network: dict, classes: int) -> dict:
    """A network's config with the number of classes filled in."""
    return dict(network, head=dict(network['head'], num_classes=classes))


def base_config(setting: Setting, file: str, work_dir: str, seed: int, part: str, train: str = 'train') -> Config:
    """Data, schedule and runtime of a setting.

    Args:
        setting (Setting): The setting.
        file (str): Its images.
        work_dir (str): Where the run writes.
        seed (int): Seed of the run.
        part (str): 'val' or 'test', the images to evaluate on after the last epoch.
        train (str): The images to train on. Defaults to 'train'.
    """
    channels = setting.size[0]
    pipeline = [dict(type='PackInputs')]

    def loader(name: str, batch_size: int, augments: list, **kwargs) -> dict:
        return dict(batch_size=batch_size, num_workers=0, collate_fn=dict(type='collate_free'),
                    sampler=dict(type='DefaultSampler', shuffle=name == train),
                    dataset=dict(type='InMemoryDataset', augments=augments,
                                 dataset=dict(type='ArrayImages', file=file, part=name, pipeline=pipeline)), **kwargs)

    augments = [dict(type='BatchRandomCrop', padding=max(1, setting.size[1] // 8))]
    if channels == 3:
        augments.append(dict(type='BatchRandomFlip', prob=0.5))
    test = loader(part, 500, [])
    return Config(dict(
        custom_imports=dict(imports=['distpro_mm']), default_scope='mmpretrain', work_dir=work_dir, log_level='WARNING',
        data_preprocessor=dict(type='mmrazor.BatchPreprocessor', num_classes=setting.classes, mean=[110.0] * channels,
                               std=[60.0] * channels),
        train_dataloader=loader(train, setting.batch_size, augments, drop_last=True),
        val_dataloader=test, test_dataloader=test, val_evaluator=dict(type='Accuracy', topk=(1, )),
        test_evaluator=dict(type='Accuracy', topk=(1, )), val_cfg=dict(), test_cfg=dict(),
        default_hooks=dict(
            timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1000000),
            param_scheduler=dict(type='ParamSchedulerHook'), sampler_seed=dict(type='DistSamplerSeedHook'),
            checkpoint=dict(type='mmrazor.AtomicCheckpointHook', interval=1000000, max_keep_ckpts=1)),
        env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
                     dist_cfg=dict(backend='nccl')),
        visualizer=dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=seed), load_from=None, resume=False))


def schedule(cfg: Config, optimizer: dict, epochs: int, train_cfg: dict[str, Any] | None = None) -> Config:
    """Give a config an optimiser and a cosine schedule over some epochs, with a warm-up of a tenth for AdamW."""
    cfg.optim_wrapper = dict(optimizer=optimizer)
    cosine = dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True)
    cfg.param_scheduler = cosine
    if optimizer['type'] == 'AdamW':
        warm_up = max(1, epochs // 8)
        cfg.param_scheduler = [
            dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=warm_up, convert_to_iter_based=True),
            dict(cosine, T_max=epochs - warm_up, begin=warm_up, end=epochs)]
    cfg.train_cfg = train_cfg or dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=epochs, val_interval=epochs)
    return cfg


def distilled(setting: Setting, teacher_ckpt: str) -> dict:
    """The model that distils along all pathways."""
    distiller = dict(type='DistProDistiller', transforms=[POINTWISE], map_size=4,
                     logits=[dict(type='KLDivergence', tau=4, name='kl')],
                     weighting=dict(type='exponential'))
    return dict(_scope_='mmrazor', type='DistPro', architecture=with_classes(setting.student, setting.classes),
                teacher=with_classes(setting.teacher, setting.classes), teacher_ckpt=teacher_ckpt, input_shape=setting.size,
                distiller={**distiller, **setting.distiller})


def pursuhint(setting: Setting, teacher_ckpt: str, hints: float = 33.0, logits: float = 0.9) -> dict:
    """The baseline PURSUhInT, with the weights of its three hints and of KD."""
    distiller = Config.fromfile(ROOT / 'configs/_base_/distillers/pursuhint.py').pursuhint
    distiller.loss.loss_weight, distiller.distill_losses.loss_kl.loss_weight = hints, logits
    return dict(_scope_='mmrazor', type='TapDistill', architecture=with_classes(setting.student, setting.classes),
                teacher=with_classes(setting.teacher, setting.classes), teacher_ckpt=teacher_ckpt, input_shape=setting.size,
                distiller=distiller)


def plain_kd(setting: Setting, teacher_ckpt: str, weight: float = 0.9) -> dict:
    """mmrazor's own knowledge distillation of logits."""
    head = dict(type='ModuleOutputs', source='head.fc')
    return dict(_scope_='mmrazor', type='SingleTeacherDistill', architecture=with_classes(setting.student, setting.classes),
                teacher=with_classes(setting.teacher, setting.classes), teacher_ckpt=teacher_ckpt,
                distiller=dict(
                    type='ConfigurableDistiller', student_recorders=dict(head=head), teacher_recorders=dict(head=head),
                    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=weight)),
                    loss_forward_mappings=dict(loss_kl=dict(
                        preds_S=dict(from_student=True, recorder='head'),
                        preds_T=dict(from_student=False, recorder='head')))))
