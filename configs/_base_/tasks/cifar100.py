# What the pairs on CIFAR-100 share. A pair adds its networks, and changes what is another for it.
_base_ = [
    '../runtime/default.py', '../datasets/{{$CIFAR100:cifar100}}.py', '../networks/cifar_networks.py',
    '../schedules/cifar_240e.py', './methods.py'
]
input_shape = (3, 32, 32)
distpro = dict(type='DistProDistiller')
replay = dict(skip_below=0.5)  # light pathways are not computed
dkd_loss = dict(beta=8.0)  # mdistiller's, where it names none for the pair
reviewkd_loss = dict(loss_weight=1.0)  # for pairs without a published weight
crd_loss = dict(sample_n=50000, neg_num=16384)  # sample_n: number of training images

# For pairs to use. The stages of these networks end without an activation; it comes after the next batch norm.
wrn_before = ['backbone.layer2.0.bn1', 'backbone.layer3.0.bn1', 'backbone.relu']
pooled = [dict(module='backbone', before_activation=False)]
