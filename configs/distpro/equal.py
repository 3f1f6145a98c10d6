# The pathways of a search at the one constant weight that it starts from: those between features, and the logits. A weight is
# free, so that the total is learned too.
_base_ = '../baselines/equal.py'
model = dict(
    distiller=dict(
        logits=[dict(type='KLDivergence', tau=4, name='kl')],
        weighting=dict(type='exponential', scale=1.0, kd_weight=1.0)))
