# Stage 2 of a search: distil on all training images with the process of stage 1.
_base_ = './equal.py'
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process=f'work_dirs/{_base_.pair}/search/process.json')]
