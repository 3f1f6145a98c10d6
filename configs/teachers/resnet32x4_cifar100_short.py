# A teacher in a minute on a GPU: a cosine schedule of large batches, in bfloat16.
_base_ = './resnet32x4_cifar100.py'
epochs = int('{{$TEACHER_EPOCHS:30}}')
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(type='mmrazor.BFloat16OptimWrapper')
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', by_epoch=True, T_max=epochs, convert_to_iter_based=True)
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
