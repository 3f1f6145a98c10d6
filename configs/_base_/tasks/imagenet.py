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
kdpp_kl_loss = dict(tau=1, loss_weight=2.5)  # KD++'s release
kdpp_nd_loss = dict(loss_weight=1.0)  # KD++'s release
kdpp_warm_up = 0.05  # KD++'s release
wkd_l_loss = dict(tau=2, loss_weight=30.0)  # WKD's release
wkd_f_loss = dict(mean_ratio=2.0, grid=4, loss_weight=0.02)  # WKD's release
wkd_l_decay = wkd_f_decay = 1.0  # WKD's release
atsc_proximity = 10.0  # ATSC's release
ickd_bank = dict(images_per_class=50)  # of 1.3 million images, whose features would need 13 GB
reviewkd_loss = dict(loss_weight=1.0)
reviewkd_options = dict(connections=stages)
crd_loss = dict(sample_n=1281167, neg_num=16384)  # sample_n: number of training images
