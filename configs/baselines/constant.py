# The pathways of the process 'general' with two constant weights by hand: one of all features, and one of the logits. A control
# of what the change over time is worth.
_base_ = '../distpro/equal.py'
custom_hooks = [
    dict(
        type='mmrazor.ProcessReplayHook',
        process=dict(unit='variance', progress=[0, 1], weights=dict(features=[30, 30], logits=[3, 3])))
]
