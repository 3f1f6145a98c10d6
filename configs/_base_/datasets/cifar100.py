# CIFAR-100 by mmpretrain's class, which downloads it to data/cifar100. Held in memory and augmented in batches.
data_preprocessor = dict(
    type='mmrazor.BatchPreprocessor',
    num_classes=100,
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False)  # the files hold RGB
test_pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='collate_free'),
    dataset=dict(
        type='InMemoryDataset',
        dataset=dict(type='CIFAR100', data_root='data/cifar100', split='train', pipeline=test_pipeline),
        augments=[dict(type='BatchRandomCrop', padding=4), dict(type='BatchRandomFlip', prob=0.5)]))
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_free'),
    dataset=dict(
        type='InMemoryDataset',
        dataset=dict(type='CIFAR100', data_root='data/cifar100', split='test', pipeline=test_pipeline)))
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
