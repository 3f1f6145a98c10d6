# All pathways of DistPro, logits included, with weights that increase over the training: a hand-tuned process.
_base_ = '../distpro/equal.py'
model = dict(distiller=dict(connections='student_not_shallower'))
custom_hooks = [
    dict(
        type='mmrazor.ProcessReplayHook',
        process=dict(
            unit='variance', progress=[0, 0.5, 1], weights=dict(features=[1, 10, 100], logits=[0.3, 3, 30])))
]
