"""A small classifier of every backbone that mmpretrain and this package have: a few blocks, few channels, small images."""
import copy
import functools
from dataclasses import dataclass, replace

import distpro_mm  # noqa: F401  isort: skip  before mmpretrain, which it patches
from mmpretrain.models.backbones import CSPDarkNet, CSPNet, CSPResNet, CSPResNeXt, LeViT, PyramidVig, Vig
from mmpretrain.models.backbones.cspnet import DarknetBottleneck
from torch import nn

CLASSES = 10


@dataclass(frozen=True)
class Small:
    """The parts of one classifier, and the shape of its images."""

    backbone: dict
    neck: dict | list | None
    head: dict
    shape: tuple

    @property
    def classifier(self):
        """A new config of the classifier for each call, because some backbones modify the lists in it."""
        return copy.deepcopy(dict(
            _scope_='mmpretrain', type='ImageClassifier', backbone=self.backbone, neck=self.neck, head=self.head))


MAPS, TOKENS = dict(type='GlobalAveragePooling'), dict(type='GlobalAveragePooling', dim=1)  # necks; None: the backbone pools


def small(size, channels, /, *, neck=MAPS, head='LinearClsHead', colours=3, **backbone):
    """An entry for images of ``size`` pixels. Its head has ``channels`` inputs. None: the backbone returns logits."""
    head = dict(type=head) if isinstance(head, str) else dict(head)
    if channels is not None:
        head.update(num_classes=CLASSES, in_channels=channels)
    return Small(backbone, neck, head, (colours, size, size))


def named(**entries):
    """The entries by their backbones' names, which are their types too."""
    return {name: replace(entry, backbone={'type': name, **entry.backbone}) for name, entry in entries.items()}


WIDTHS = [8, 16, 24, 32]  # channels of four stages; at 64 pixels the maps have sizes of 16, 8, 4 and 2, never the same
ONES = [1, 1, 1, 1]
UNDISTILLED = dict(distillation=False)  # mmpretrain trains these heads only like this
TRUNK = dict(stem_channels=8, base_channels=8)  # of ResNets
VIT = dict(embed_dims=48, num_layers=2, num_heads=2, feedforward_channels=96)  # at 64 pixels 4 x 4 tokens
WINDOWS = dict(embed_dims=24, depths=[2, 1, 1, 2], num_heads=[1, 2, 4, 8])  # the second block of a stage shifts its windows
POOLING = dict(layers=ONES, embed_dims=WIDTHS, mlp_ratios=[2, 2, 2, 2], layer_scale_init_value=1e-5)
TWINS = dict(embed_dims=WIDTHS, depths=[2, 1, 1, 2], num_heads=[1, 2, 2, 2], patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2],
             mlp_ratios=[2, 2, 2, 2], sr_ratios=[8, 4, 2, 1])

# These accept only the names in their own tables, and their smallest networks are not small. (LeViT accepts a dict, but
# requires other keys than it reads.)
CSPDarkNet.arch_settings['least'] = dict(
    CSPDarkNet.arch_settings[53], in_channels=(8, 16, 24, 32, 40), out_channels=(16, 24, 32, 40, 48),
    num_blocks=(1, 1, 1, 1, 1))
CSPResNet.arch_settings['least'] = dict(
    CSPResNet.arch_settings[50], in_channels=(8, 16, 24, 32), out_channels=(16, 24, 32, 40), num_blocks=(1, 1, 1, 1))
CSPResNeXt.arch_settings['least'] = dict(
    CSPResNeXt.arch_settings[50], in_channels=(8, 32, 64, 96), out_channels=(32, 64, 96, 128), num_blocks=(1, 1, 1, 1),
    block_args=dict(groups=2, width_per_group=4, base_channels=4))
LeViT.arch_zoo['least'] = dict(embed_dims=[32, 48, 64], num_heads=[2, 3, 4], depths=[1, 1, 1], key_dims=[8, 8, 8])
Vig.arch_settings['least'] = dict(num_blocks=2, channels=48)
PyramidVig.arch_settings['least'] = dict(blocks=ONES, channels=[16, 32, 48, 64])


def branches(number, block='BASIC'):
    """One stage of an HRNet."""
    return dict(num_modules=1, num_branches=number, block=block, num_blocks=ONES[:number], num_channels=WIDTHS[:number])


CONVOLUTIONS = named(
    LeNet5=small(32, None, neck=None, head='ClsHead', colours=1, num_classes=CLASSES),
    AlexNet=small(64, 256),
    VGG=small(32, 512, depth=11, norm_cfg=dict(type='BN')),
    InceptionV3=small(75, None, neck=None, head='ClsHead', num_classes=CLASSES),
    ResNet=small(64, 64, depth=18, **TRUNK),
    ResNet_CIFAR=small(32, 64, depth=18, **TRUNK),
    ResNetV1c=small(64, 64, depth=18, **TRUNK),
    ResNetV1d=small(64, 64, depth=18, **TRUNK),
    ResNeXt=small(64, 256, depth=50, groups=2, width_per_group=4, **TRUNK),
    SEResNet=small(64, 256, depth=50, se_ratio=4, **TRUNK),
    SEResNeXt=small(64, 256, depth=50, groups=2, width_per_group=4, se_ratio=4, **TRUNK),
    ResNeSt=small(64, 256, depth=50, **TRUNK),
    Res2Net=small(64, 256, depth=50, scales=4, base_width=26, **TRUNK),
    RegNet=small(64, 64, arch=dict(w0=8, wa=12, wm=2, group_w=8, depth=5, bot_mul=1.0)),
    DenseNet=small(64, 16, arch=dict(growth_rate=4, depths=[2, 2, 2, 2], init_channels=8)),
    CSPNet=small(64, 32, type=CSPNet,  # the base of the three below; not registered, and no file can hold its config
                 arch=dict(block_fn=DarknetBottleneck, in_channels=(8, 16), out_channels=(16, 32), num_blocks=(1, 1)),
                 stem_fn=functools.partial(nn.Conv2d, out_channels=8, kernel_size=3)),
    CSPDarkNet=small(64, 48, depth='least'),
    CSPResNet=small(64, 40, depth='least'),
    CSPResNeXt=small(64, 128, depth='least'),
    HRNet=small(64, 2048, neck=[dict(type='HRFuseScales', in_channels=WIDTHS), MAPS],
                extra=dict(stage1=branches(1, 'BOTTLENECK'), stage2=branches(2), stage3=branches(3), stage4=branches(4))),
    RepVGG=small(64, 64, arch=dict(num_blocks=ONES, width_factor=ONES, group_layer_map=None, se_cfg=None), base_channels=8),
    RepLKNet=small(64, 32, arch=dict(
        large_kernel_sizes=[7, 7, 5, 3], layers=ONES, channels=WIDTHS, small_kernel=3, dw_ratio=1)),
    MobileOne=small(64, 64, arch=dict(
        num_blocks=ONES, width_factor=[0.125] * 4, num_conv_branches=[2] * 4, num_se_blocks=[0, 0, 0, 1])),
    ShuffleNetV1=small(64, 480, widen_factor=0.5),
    ShuffleNetV2=small(64, 1024, widen_factor=0.5),
    MobileNetV2=small(64, 1280, widen_factor=0.25),
    MobileNetV3=small(64, 288, arch='small_050', head=dict(type='StackedLinearClsHead', mid_channels=[32])),
    EfficientNet=small(64, 1280, arch='b0'),
    EfficientNetV2=small(64, 1280, arch='b0'),
    ConvNeXt=small(64, 32, neck=None, arch=dict(depths=ONES, channels=WIDTHS)),
    ConvMixer=small(64, 32, arch=dict(embed_dims=32, depth=2, patch_size=8, kernel_size=5)),
    HorNet=small(64, 64, neck=None, arch=dict(base_dim=8, depths=ONES, orders=[2, 3, 4, 5], dw_cfg=[
        *[dict(type='DW', kernel_size=7)] * 2, dict(type='GF', h=4, w=3), dict(type='GF', h=2, w=2)])),  # of maps of 4 and 2
    VAN=small(64, 32, arch=dict(embed_dims=WIDTHS, depths=ONES, ffn_ratios=[2, 2, 2, 2])),
    PoolFormer=small(64, 32, arch=POOLING),
    RIFormer=small(64, 32, arch=POOLING),
)

ATTENTION = named(
    VisionTransformer=small(64, 48, neck=None, head='VisionTransformerClsHead', arch=VIT, img_size=64),
    DistilledVisionTransformer=small(64, 48, neck=None, head='DeiTClsHead', arch=VIT, img_size=64),
    MoCoV3ViT=small(64, 48, neck=None, head='VisionTransformerClsHead', arch=VIT, img_size=64, patch_size=16),
    DeiT3=small(64, 48, neck=None, head='VisionTransformerClsHead', arch=VIT, img_size=64),
    BEiTViT=small(64, 48, neck=None, arch=VIT, img_size=64),
    ViTEVA02=small(64, 48, neck=None, arch=VIT, img_size=64, out_type='avg_featmap', final_norm=False),
    # Two streams side by side, without a graph in training: backward computes them anew, unless no_custom_backward is set.
    RevVisionTransformer=small(64, 96, neck=None, arch=VIT, img_size=64, no_custom_backward=True),
    ViTSAM=small(64, 24, arch=dict(VIT, global_attn_indexes=[1]), img_size=64, out_channels=24, window_size=3),
    T2T_ViT=small(64, 48, neck=None, head='VisionTransformerClsHead', img_size=64, embed_dims=48, num_layers=2,
                  t2t_cfg=dict(token_dims=16, use_performer=False), layer_cfgs=dict(num_heads=2, feedforward_channels=96)),
    TNT=small(64, 48, neck=None, img_size=64, arch=dict(
        embed_dims_outer=48, embed_dims_inner=12, num_layers=2, num_heads_outer=2, num_heads_inner=2)),
    XCiT=small(64, 48, neck=None, img_size=64, embed_dims=48, depth=2, cls_attn_layers=2, num_heads=2),
    MlpMixer=small(64, 48, neck=TOKENS, img_size=64, arch=dict(
        embed_dims=48, num_layers=2, tokens_mlp_dims=24, channels_mlp_dims=96)),
    Conformer=small(64, [32, 48], neck=None, head='ConformerHead', base_channels=8, arch=dict(
        embed_dims=48, depths=6, num_heads=2, channel_ratio=1)),
    SwinTransformer=small(64, 192, arch=WINDOWS, img_size=64, window_size=2),
    SwinTransformerV2=small(64, 192, arch=dict(WINDOWS, extra_norm_every_n_blocks=0), img_size=64, window_size=2),
    DaViT=small(64, 192, arch=WINDOWS, window_size=2),
    MixMIMTransformer=small(64, 192, neck=None, arch=WINDOWS, img_size=64, window_size=[4, 4, 4, 2]),
    PCPVT=small(64, 32, arch=TWINS),
    SVT=small(64, 32, arch=dict(TWINS, window_sizes=[2, 2, 2, 2])),
    MViT=small(64, 192, img_size=64, arch=dict(embed_dims=24, num_layers=4, num_heads=1, downscale_indices=[1, 2, 3])),
    # The code also looks for the number of the last block among the six blocks before it.
    HiViT=small(64, 96, arch=dict(embed_dims=96, depths=[1, 1, 7], num_heads=2), img_size=64, rpe=True, out_indices=[-1]),
    LeViT=small(96, 64, head=dict(type='LeViTClsHead', **UNDISTILLED), arch='least', img_size=96),
    TinyViT=small(64, 32, neck=None, img_size=(64, 64), window_size=[7, 4, 2, 2],
                  arch=dict(channels=WIDTHS, num_heads=[1, 2, 2, 2], depths=[1, 1, 2, 1])),
    EdgeNeXt=small(64, 32, neck=None, arch=dict(channels=WIDTHS, depths=[1, 2, 2, 2], num_heads=[4, 4, 4, 4])),
    MobileViT=small(64, 160, arch=[['mobilenetv2', 8, 1, 1, 2], ['mobilenetv2', 16, 2, 1, 2],
                                   *[['mobilevit', width, 2, 48, 96, 1, 2] for width in (24, 32, 40)]]),
    EfficientFormer=small(224, 32, neck=TOKENS, head=dict(type='EfficientFormerClsHead', **UNDISTILLED), arch=dict(
        layers=[1, 1, 1, 2], embed_dims=WIDTHS, downsamples=[False, True, True, True], vit_num=1)),  # of 7 x 7 tokens only
    RepMLPNet=small(64, 32, img_size=64, reparam_conv_kernels=(1, 3), arch=dict(
        channels=WIDTHS, depths=ONES, sharesets_nums=[1, 2, 4, 8])),
    # Both add positions of a fixed size.
    Vig=small(224, 48, head=dict(type='VigClsHead', hidden_dim=32), arch='least'),
    PyramidVig=small(224, 64, head=dict(type='VigClsHead', hidden_dim=32), arch='least'),
)

OURS = named(
    CIFARResNet=small(32, 64, depth=8),
    CIFARWideResNet=small(32, 64, depth=10),
    CIFARPyramidNet=small(32, 104, depth=11, alpha=10),
    CIFARVGG=small(32, 512, depth=8),
    CIFARMobileNetV2=small(32, 1280),
    CIFARShuffleNetV1=small(32, 192, channels=(48, 96, 192)),
    CIFARShuffleNetV2=small(32, 64, channels=(24, 48, 96), last_channels=64),
    MobileNetV1=small(64, 1024),
)

BACKBONES = {**CONVOLUTIONS, **ATTENTION, **OURS}

MASKED = 'a pre-training on masked images: '
NOTES = dict(
    RevVisionTransformer='as a student with `no_custom_backward=True`: its own backward keeps no graph, and is refused',
    Conformer='without logits among the pathways: it puts out a pair of them')

REFUSED = dict(
    TIMMBackbone='needs the package timm; networks of timm are given by name, see networks.md',
    SparseResNet=MASKED + 'ResNet whose layers read a mask of the batch that only SparK sets, and fail without it',
    SparseConvNeXt=MASKED + 'ConvNeXt that does as SparseResNet',
    BEiTPretrainViT=MASKED + 'BEiTViT whose forward asks for a mask',
    CAEPretrainViT=MASKED + 'BEiTViT whose forward asks for a mask',
    MaskFeatViT=MASKED + 'VisionTransformer whose forward asks for a mask',
    MILANViT=MASKED + 'VisionTransformer whose forward asks for the importance of each patch',
    SimMIMSwinTransformer=MASKED + 'SwinTransformer whose forward asks for a mask',
    MAEViT=MASKED + 'VisionTransformer that drops three of four patches and puts out tokens, mask and order for a decoder',
    MFFViT=MASKED + 'as MAEViT, with the layers fused',
    MAEHiViT=MASKED + 'HiViT that drops three of four patches and puts out tokens, mask and order for a decoder',
    iTPNHiViT=MASKED + 'as MAEHiViT, with the tokens of three stages',
    MixMIMPretrainTransformer=MASKED + 'MixMIMTransformer that mixes the images of a batch and puts out tokens and mask',
)
