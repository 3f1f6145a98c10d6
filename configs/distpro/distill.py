# Distil on all training images with the process 'general' of the package, which needs no search.
_base_ = './equal.py'
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process='general')]
