# DistPro as published, stage 2: distils on all training images with the process of stage 1.
_base_ = '../baselines/equal.py'
model = dict(distiller=_base_.published_layers)
custom_hooks = [
    dict(_base_.replay, type='mmrazor.ProcessReplayHook', process=f'work_dirs/{_base_.pair}/published_search/process.json')
]
