# The pathways of a search, between features and of the logits, with the constant weight 1. The teacher's features are divided by
# their standard deviation, and the losses are averaged over pathways. Weights are independent, so that a search learns their
# total too.
_base_ = '../baselines/equal.py'
model = dict(
    distiller=dict(
        logits=[dict(type='KLDivergence', tau=4, name='kl')],
        weighting=dict(type='exponential', scale=1.0, kd_weight=1.0, unit='variance')))
