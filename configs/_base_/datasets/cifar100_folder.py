# CIFAR-100 (or any small images) from folders of image files: data/cifar100/{train,test}/<class>/*.png. Chosen by the
# environment: CIFAR100=cifar100_folder python tools/train.py ...
_base_ = './cifar100.py'
data_preprocessor = dict(to_rgb=True)  # image files are read as BGR
_read = [dict(type='LoadImageFromFile')]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar100',
        data_prefix='train',
        pipeline=_read + _base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar100',
        data_prefix='test',
        pipeline=_read + _base_.test_pipeline))
test_dataloader = val_dataloader
