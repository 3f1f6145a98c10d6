# Transformers: the teacher is from mmpretrain's model zoo, and the student is trained like DeiT (ICML 2021), but for 100 epochs
# with batches of 256 and without mixing images, because some losses need one label per image.
_base_ = '../tasks/imagenet.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.deit_small
student = _base_.deit_tiny
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'
feature_modules = ['backbone', 'backbone']  # the class tokens
distpro = dict(transforms=[dict(type='PointwiseTransform')])  # the token grids of both have the same size
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=5e-4 * 256 / 512, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0)
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=100, T_max=95, convert_to_iter_based=True)
]
search_stage = dict(
    param_scheduler=[
        dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=2, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=17, T_max=15, convert_to_iter_based=True)
    ])
ab_stage = dict(
    param_scheduler=[
        dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=2, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=12, T_max=10, convert_to_iter_based=True)
    ])
ft_stage = ab_stage
