# What the pairs on CIFAR-100 share. A pair adds its networks, and changes what is another for it.
_base_ = [
    '../runtime/default.py', '../datasets/{{$CIFAR100:cifar100}}.py', '../networks/cifar_networks.py',
    '../schedules/cifar_240e.py'
]
input_shape = (3, 32, 32)
distpro = dict(type='DistProDistiller')
replay = dict(skip_below=0.5)  # light pathways are not computed
# Stages of teacher and student that AB, AT, OFD, VID and L2T-ww compare; FitNet takes the second of them.
stages = [(-3, -3), (-2, -2), (-1, -1)]
last_stages = 'layer3>layer3'  # names of the last ones, by which FT finds its paraphraser
# transmitters and receivers where 'auto' is not what a method wants: before their activation (AB, OFD, L2T-ww), after it
# (AT, CWD, FitNet, FT, MGD, PKD, SP, VID), and the map for the classifier, if it is not the last stage's (CC, CRD, NORM,
# SimKD).
layers_before, layers_after, layers_pooled = dict(), dict(), dict()
# Arguments of losses.
kd_loss = dict()
dkd_loss = dict(beta=8.0)  # mdistiller's, where it names none for the pair
reviewkd_loss = dict(loss_weight=1.0)  # for pairs without a published weight
reviewkd_options = dict()
crd_loss = dict(sample_n=50000, neg_num=16384)  # sample_n: number of training images

# For pairs to use. The stages of these networks end without an activation; it comes after the next batch norm.
wrn_before = ['backbone.layer2.0.bn1', 'backbone.layer3.0.bn1', 'backbone.relu']
pooled = [dict(module='backbone', before_activation=False)]
