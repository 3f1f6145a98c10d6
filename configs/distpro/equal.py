# The pathways of a search: those between features, and the logits, at the constant weight 1. The teacher's features are divided by
# their standard deviation and the losses averaged over pathways. Weights are free, so that the total is learned too.
_base_ = '../baselines/equal.py'
model = dict(
    distiller=dict(
        logits=[dict(type='KLDivergence', tau=4, name='kl')],
        weighting=dict(type='exponential', scale=1.0, kd_weight=1.0, unit='variance')))
