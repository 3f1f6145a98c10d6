# CIFAR-100 made small enough for a CPU: 16 x 16 pixels, 100 of the 500 training images a class, and all 10,000 test images.
_base_ = './{{$CIFAR100:cifar100}}.py'
test_pipeline = [*_base_.test_pipeline[:-1], dict(type='Resize', scale=16, interpolation='area'), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='HeldOutSplit',
            part='held_out',
            ratio=0.2,
            dataset=dict(_base_.train_dataloader.dataset.dataset, pipeline=test_pipeline)),
        augments=[dict(type='BatchRandomCrop', padding=2), dict(type='BatchRandomFlip', prob=0.5)]))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
