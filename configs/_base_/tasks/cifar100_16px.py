# All of CIFAR-100 at 16 x 16 pixels for 8 epochs, for a CPU: an epoch costs a quarter, and distillation helps most with a short
# schedule.
_base_ = './cifar100.py'
input_shape = (3, 16, 16)
test_pipeline = [*_base_.test_pipeline[:-1], dict(type='Resize', scale=16, interpolation='area'), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(pipeline=test_pipeline),
        augments=[dict(type='BatchRandomCrop', padding=2), dict(type='BatchRandomFlip', prob=0.5)]))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=8, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=8, val_interval=8)
search_stage = dict(param_scheduler=param_scheduler, train_cfg=dict(max_epochs=8, val_interval=8))
round_share = 0.375
ab_stage = dict(param_scheduler=dict(T_max=1), train_cfg=dict(max_epochs=1, val_interval=1))
ft_stage = ab_stage
warm_up_epochs = 1
distpro = dict(transforms=[dict(type='PointwiseTransform')])
