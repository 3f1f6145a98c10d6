# CIFAR-100, all of it, at 16 x 16 pixels: a quarter of the cost, for a CPU.
_base_ = './{{$CIFAR100:cifar100}}.py'
test_pipeline = [*_base_.test_pipeline[:-1], dict(type='Resize', scale=16, interpolation='area'), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(pipeline=test_pipeline),
        augments=[dict(type='BatchRandomCrop', padding=2), dict(type='BatchRandomFlip', prob=0.5)]))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
