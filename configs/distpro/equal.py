# The pathways of a search with the constant weight 1: each layer of the student learns from the teacher's layer of the nearest
# depth, which with the process 'general' is as good as more pathways, or better, and costs less, by a linear transform, which is
# as good as the release's; and the logits. The teacher's
# features are divided by their standard deviation, and the losses are averaged over pathways. Weights are independent, so that
# a search learns their total too.
_base_ = '../baselines/equal.py'
model = dict(
    distiller=dict(
        connections='nearest_depth',
        transforms=[dict(type='PointwiseTransform')],
        logits=[dict(type='KLDivergence', tau=4, name='kl')],
        weighting=dict(type='exponential', scale=1.0, kd_weight=1.0, unit='variance')))
