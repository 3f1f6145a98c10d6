# Stage 1: search a process on 80% of the training images, moving alpha by the loss on the other 20%.
_base_ = '../baselines/equal_resnet20_resnet8-half_digits.py'
optim_wrapper = dict(constructor='mmrazor.DistProOptimWrapperConstructor')
train_cfg = dict(_delete_=True, type='mmrazor.DistProSearchLoop', max_epochs=20, val_interval=20)
