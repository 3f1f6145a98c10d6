# What the pairs on scikit-learn's digits share. A pair adds its networks, and changes what is another for it.
_base_ = [
    '../runtime/default.py', '../datasets/digits.py', '../networks/digits_networks.py', '../schedules/digits_20e.py'
]
input_shape = (1, 8, 8)
distpro = dict(
    type='DistProDistiller',
    connections='student_not_shallower',
    transforms=[dict(type='PointwiseTransform')],
    # kd_weight: of 0.1, 0.3, 1, 3 and 10 the best for equal weights on training images that are not used here.
    weighting=dict(type='biased_softmax', bias=1.0, scale='num_pathways', kd_weight=3.0))
replay = dict()
# Stages of teacher and student that AB, AT, OFD, VID and L2T-ww compare; FitNet takes the second of them.
stages = [(-3, -3), (-2, -2), (-1, -1)]
last_stages = 'layer3>layer3'  # names of the last ones, by which FT finds its paraphraser
# transmitters and receivers where 'auto' is not what a method wants: before their activation (AB, OFD, L2T-ww), after it
# (AT, CWD, FitNet, FT, MGD, PKD, SP, VID), and the map for the classifier, if it is not the last stage's (CC, CRD, NORM,
# SimKD).
layers_before, layers_after, layers_pooled = dict(), dict(), dict()
# Arguments of losses.
kd_loss = dict()
dkd_loss = dict(beta=2.0)
reviewkd_loss = dict(loss_weight=0.6)
reviewkd_options = dict()
crd_loss = dict(sample_n=300, neg_num=250)  # sample_n: number of training images
