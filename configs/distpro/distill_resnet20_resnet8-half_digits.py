# Stage 2: distil on all training images with the process of stage 1.
_base_ = '../baselines/equal_resnet20_resnet8-half_digits.py'
custom_hooks = [
    dict(type='mmrazor.ProcessReplayHook', process='work_dirs/search_resnet20_resnet8-half_digits/process.json')
]
