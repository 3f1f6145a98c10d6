# Distil on all training images with the process 'general' of the package, which needs no search. Each layer of the student but the
# first learns from the teacher's layer of the nearest depth: with this process that is better than more pathways, and costs less.
_base_ = './equal.py'
model = dict(distiller=dict(connections='nearest_after_first'))
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process='general')]
