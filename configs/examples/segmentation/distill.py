# Stage 2: distil on all training images, in mmsegmentation's own schedule, with the process of stage 1.
_base_ = './equal.py'
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process=f'work_dirs/{_base_.pair}/search/process.json')]
