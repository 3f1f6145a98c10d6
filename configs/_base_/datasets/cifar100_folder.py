# CIFAR-100 (or any small images) from folders of image files: data/cifar100/{train,test}/<class>/*.png. Selected by
# the environment: CIFAR100=cifar100_folder python tools/train.py ...
_base_ = './cifar100.py'
data_preprocessor = dict(to_rgb=True)  # image files are read as BGR
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='CustomDataset',
            data_root='data/cifar100',
            data_prefix='train',
            pipeline=test_pipeline)))
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='CustomDataset',
            data_root='data/cifar100',
            data_prefix='test',
            pipeline=test_pipeline)))
test_dataloader = val_dataloader
