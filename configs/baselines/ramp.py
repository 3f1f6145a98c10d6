# All pathways of DistPro at one weight that rises over the run: a process made by hand.
_base_ = './equal.py'
custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process=dict(progress=[0, 0.5, 1], weights=[3, 30, 300]))]
