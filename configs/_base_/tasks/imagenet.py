# Settings of all pairs on ImageNet. A pair adds its networks and overrides settings. Weights for
# ImageNet are published for KD, DKD, ReviewKD, WSLD and MGD; the other weights are those of CIFAR-100.
_base_ = [
    '../runtime/default.py', '../datasets/imagenet.py', '../networks/imagenet_networks.py', '../schedules/imagenet_100e.py',
    './methods.py'
]
input_shape = (3, 224, 224)
distpro = dict(type='DistProDistiller')
replay = dict(skip_below=0.5)  # pathways with small weights are skipped
stages = [(-4, -4), (-3, -3), (-2, -2), (-1, -1)]
kd_loss = dict(tau=1, loss_weight=1.0)  # mdistiller's: temperature 1, and the weight of the cross-entropy
dkd_loss = dict(tau=1, beta=2.0)
reviewkd_loss = dict(loss_weight=1.0)
reviewkd_options = dict(connections=stages)
crd_loss = dict(sample_n=1281167, neg_num=16384)  # sample_n: number of training images
