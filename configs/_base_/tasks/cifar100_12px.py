# CIFAR-100 at 12 x 12 pixels, with the settings of 16 x 16: a test of these settings at another resolution.
_base_ = './cifar100_16px.py'
input_shape = (3, 12, 12)
test_pipeline = [*_base_.test_pipeline[:-2], dict(type='Resize', scale=12, interpolation='area'), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
