# Distil on all training images with the process of refine.py.
_base_ = './equal.py'
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process=f'work_dirs/{_base_.pair}/refine/process.json')]
