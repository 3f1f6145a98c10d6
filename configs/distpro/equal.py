# The pathways of a search with the constant weight 1: each layer of the student learns from the teacher's layer of the nearest
# depth, through a linear transform; and the logits. With the process 'general' this is as good as more pathways and the
# release's transform, or better, and costs less. Large maps are halved until a side has four to seven pixels, which classifiers
# lose nothing by. The teacher's features are divided by their standard deviation, and the losses
# are averaged over pathways. Weights are independent, so that a search learns their total too.
_base_ = '../baselines/equal.py'
model = dict(
    distiller=dict(
        connections='nearest_depth',
        transforms=[dict(type='PointwiseTransform')],
        map_size=4,
        logits=[dict(type='KLDivergence', tau=4, name='kl')],
        weighting=dict(type='exponential', scale=1.0, kd_weight=1.0, unit='variance')))
