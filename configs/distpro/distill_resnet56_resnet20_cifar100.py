# Stage 2: distil on all training images with the process of stage 1; light pathways are not computed.
_base_ = '../baselines/equal_resnet56_resnet20_cifar100.py'
custom_hooks = [
    dict(
        type='mmrazor.ProcessReplayHook',
        process='work_dirs/search_resnet56_resnet20_cifar100/process.json',
        skip_below=0.5)
]
