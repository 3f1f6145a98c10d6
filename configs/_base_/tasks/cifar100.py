# Settings of all pairs on CIFAR-100. A pair adds its networks and overrides settings.
_base_ = [
    '../runtime/default.py', '../datasets/{{$CIFAR100:cifar100}}.py', '../networks/cifar_networks.py',
    '../schedules/cifar_240e.py', './methods.py'
]
input_shape = (3, 32, 32)
distpro = dict(type='DistProDistiller')
replay = dict(skip_below=0.5)  # pathways with small weights are skipped
dkd_loss = dict(beta=8.0)  # mdistiller's, for pairs without a published value
reviewkd_loss = dict(loss_weight=1.0)  # for pairs without a published weight
crd_loss = dict(sample_n=50000, neg_num=16384)  # sample_n: number of training images

# Layers for pairs of WRNs. Their stages end without an activation, which follows the next batch norm.
wrn_before = ['backbone.layer2.0.bn1', 'backbone.layer3.0.bn1', dict(module='backbone.relu', before_activation=True)]
pooled = ['backbone']
