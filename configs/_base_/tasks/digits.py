# Settings of all pairs on scikit-learn's digits. A pair adds its networks and overrides settings.
_base_ = [
    '../runtime/default.py', '../datasets/digits.py', '../networks/digits_networks.py', '../schedules/digits_20e.py',
    './methods.py'
]
input_shape = (1, 8, 8)
distpro = dict(
    type='DistProDistiller',
    connections='student_not_shallower',
    transforms=[dict(type='PointwiseTransform')],
    # kd_weight: the best of 0.1, 0.3, 1, 3 and 10 with equal weights, on training images that are not used here.
    weighting=dict(type='biased_softmax', scale='num_pathways', kd_weight=3.0))
dkd_loss = dict(beta=2.0)
reviewkd_loss = dict(loss_weight=0.6)
crd_loss = dict(sample_n=300, neg_num=250)  # sample_n: number of training images
