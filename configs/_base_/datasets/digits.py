# scikit-learn's digits: real scans of 8 x 8 pixels that are part of the package. Only 30 training images per class, so that
# distillation makes a difference.
data_preprocessor = dict(type='mmrazor.BatchPreprocessor', num_classes=10, mean=[78.], std=[97.])
test_pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='collate_free'),
    dataset=dict(
        type='InMemoryDataset',
        dataset=dict(type='SklearnDigits', split='train', images_per_class=30, pipeline=test_pipeline),
        augments=[dict(type='BatchRandomCrop', padding=1)]))
val_dataloader = dict(
    batch_size=350,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_free'),
    dataset=dict(type='InMemoryDataset', dataset=dict(type='SklearnDigits', split='test', pipeline=test_pipeline)))
val_evaluator = dict(type='Accuracy', topk=(1, ))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
