# What the pairs on ImageNet share. A pair adds its networks, and changes what is another for it. Only the weights of KD, DKD
# and ReviewKD are published for it; WSLD's and MGD's are ImageNet's anyway, the others are CIFAR-100's.
_base_ = [
    '../runtime/default.py', '../datasets/imagenet.py', '../networks/imagenet_networks.py', '../schedules/imagenet_100e.py',
    './methods.py'
]
input_shape = (3, 224, 224)
distpro = dict(type='DistProDistiller')
replay = dict(skip_below=0.5)  # light pathways are not computed
stages = [(-4, -4), (-3, -3), (-2, -2), (-1, -1)]
kd_loss = dict(tau=1, loss_weight=1.0)  # mdistiller: temperature 1, and as much as the cross-entropy
dkd_loss = dict(tau=1, beta=2.0)
reviewkd_loss = dict(loss_weight=1.0)
reviewkd_options = dict(connections=stages)
crd_loss = dict(sample_n=1281167, neg_num=16384)  # sample_n: number of training images
