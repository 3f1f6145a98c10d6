# Distil on all training images with the process 'general' of the package, which needs no search. Each layer of the student learns
# from the teacher's layer of the nearest depth: with this process that is as good as more pathways, or better, and costs less.
_base_ = './equal.py'
model = dict(distiller=dict(connections='nearest_depth'))
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process='general')]
