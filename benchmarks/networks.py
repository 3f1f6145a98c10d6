"""Names of networks of timm, torchvision and Hugging Face, with the smallest images and sizes that they allow."""

SMALL, VIT = 64, dict(img_size=64, depth=8)
NAMES = '''
resnet18 resnetv2_50 resnext26ts seresnet50 res2net50_26w_4s resnest14d regnety_002 regnetx_002 densenet121 mobilenetv2_035
mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_b0 tf_efficientnetv2_b0 efficientnet_lite0 mnasnet_050 fbnetc_100
spnasnet_100 hardcorenas_a ghostnet_050 lcnet_035 tinynet_e rexnet_100 convnext_atto convnextv2_atto repvgg_a0 mobileone_s0
fastvit_t8 xception41 dla34 hrnet_w18_small cspresnet50 cspdarknet53 vovnet39a ese_vovnet19b_dw dpn48b selecsls42
nf_regnet_b0 hgnetv2_b0 repghostnet_050 repvit_m0_9 edgenext_xx_small mobilevit_xxs mobilevitv2_050 poolformer_s12
inception_next_atto efficientvit_b0 starnet_s1 pvt_v2_b0 davit_tiny focalnet_tiny_srf mambaout_femto nextvit_small rdnet_tiny
'''
# Name: size of the images, and the network's arguments.
TIMM = {
    **{name: (SMALL, {}) for name in NAMES.split()},
    **{name: (SMALL, VIT) for name in (
        'vit_tiny_patch16_224', 'deit_tiny_distilled_patch16_224', 'vit_relpos_small_patch16_224',
        'convit_tiny')},
    'mixer_s32_224': (SMALL, dict(img_size=64)),
    'deit3_small_patch16_224': (SMALL, dict(VIT, embed_dim=96)),
    'beit_base_patch16_224': (SMALL, dict(VIT, embed_dim=96, num_heads=4)),
    'vit_small_patch14_reg4_dinov2': (70, dict(img_size=70, depth=8, embed_dim=96)),
    'eva02_tiny_patch14_224': (70, dict(img_size=70)), 'flexivit_small': (64, dict(img_size=64, depth=8)),
    'cait_xxs24_224': (SMALL, dict(img_size=64)), 'xcit_nano_12_p16_224': (SMALL, dict(img_size=64)),
    'resmlp_12_224': (SMALL, dict(img_size=64)), 'gmlp_ti16_224': (SMALL, dict(img_size=64)),
    'vitamin_small_224': (SMALL, dict(img_size=64)), 'tiny_vit_5m_224': (224, {}),
    'swin_tiny_patch4_window7_224': (112, dict(img_size=112, window_size=7)), 'swinv2_tiny_window8_256': (128, dict(
        img_size=128, window_size=4)), 'twins_pcpvt_small': (64, dict(img_size=64)), 'levit_128s': (224, {}),
    'visformer_tiny': (64, dict(img_size=64)), 'efficientformer_l1': (224, {}), 'efficientformerv2_s0': (224, {}),
    'crossvit_tiny_240': (240, {}), 'coat_tiny': (64, dict(img_size=64)), 'coatnet_nano_rw_224': (64, dict(img_size=64)),
    'maxvit_nano_rw_256': (128, dict(img_size=128)), 'nest_tiny': (224, {}), 'pit_ti_distilled_224': (224, {}),
    'tnt_s_legacy_patch16_224': (224, {}), 'mvitv2_tiny': (64, dict(img_size=64)), 'hiera_tiny_224': (224, {}),
    'sequencer2d_s': (224, {}), 'volo_d1_224': (224, {}), 'gcvit_xxtiny': (224, {}), 'convmixer_768_32': (64, {}),
    'vit_tiny_r_s16_p8_224': (128, dict(img_size=128)), 'inception_v3': (128, {}), 'halonet26t': (256, {}),
    'naflexvit_base_patch16_gap': (64, {}),
}
TORCHVISION = {name: (SMALL, {}) for name in '''
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet mnasnet0_5 mobilenet_v2 mobilenet_v3_small
mobilenet_v3_large regnet_y_400mf regnet_x_400mf resnet18 resnet50 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0
squeezenet1_1 vgg11_bn swin_t swin_v2_t'''.split()}
TORCHVISION.update(inception_v3=(128, dict(aux_logits=False)), vit_b_16=(32, dict(image_size=32)), maxvit_t=(224, {}))

PLAIN = dict(hidden_size=48, num_hidden_layers=8, num_attention_heads=2, intermediate_size=96, image_size=64, patch_size=16)
TEXT = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
MAPS = dict(embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1])
STAGES = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
HEADS = dict(num_attention_heads=[1, 2, 2, 2])
WINDOWS = dict(image_size=64, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 2], window_size=2)
HUGGING_FACE = {
    **{name: (SMALL, PLAIN) for name in (
        'vit', 'deit', 'beit', 'data2vec-vision', 'dinov2', 'dinov2_with_registers', 'vit_msn', 'ijepa')},
    'clip': (SMALL, dict(vision_config=dict(PLAIN, projection_dim=32), text_config=TEXT)),
    'siglip': (SMALL, dict(vision_config=PLAIN, text_config=TEXT)), 'clip_vision_model': (SMALL, PLAIN),
    'resnet': (SMALL, MAPS), 'regnet': (SMALL, dict(MAPS, groups_width=8)), 'bit': (SMALL, dict(MAPS, num_groups=4)),
    'convnext': (SMALL, STAGES), 'convnextv2': (SMALL, STAGES), 'poolformer': (SMALL, STAGES),
    'segformer': (SMALL, dict(STAGES, **HEADS)), 'pvt': (SMALL, dict(STAGES, **HEADS, image_size=64)),
    'pvt_v2': (SMALL, dict(STAGES, **HEADS, image_size=64)), 'mobilenet_v1': (SMALL, dict(depth_multiplier=0.25)),
    'mobilenet_v2': (SMALL, dict(depth_multiplier=0.35)), 'swin': (SMALL, WINDOWS), 'swinv2': (SMALL, WINDOWS),
    'efficientnet': (SMALL, dict(width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640)),
    'mobilevit': (SMALL, dict(image_size=64)), 'mobilevitv2': (SMALL, dict(image_size=64, width_multiplier=0.5)),
    'levit': (224, {}), 'focalnet': (SMALL, dict(image_size=64, embed_dim=24, depths=[1, 1, 2, 1])),
    'cvt': (SMALL, dict(embed_dim=[16, 24, 32], num_heads=[1, 2, 2], depth=[1, 2, 3])), 'swiftformer': (SMALL, {}),
    'hiera': (224, dict(embed_dim=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])), 'perceiver': (32, {}),
    'imagegpt': (32, dict(n_embd=32, n_layer=2, n_head=2)),
}
ALL = {**{f'timm:{name}': entry for name, entry in TIMM.items()},
       **{f'torchvision:{name}': entry for name, entry in TORCHVISION.items()},
       **{f'hf:{name}': entry for name, entry in HUGGING_FACE.items()}}
