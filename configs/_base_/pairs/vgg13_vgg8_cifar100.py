_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.vgg13
student = _base_.vgg8
teacher_ckpt = 'work_dirs/vgg13_cifar100/epoch_240.pth'
dkd_loss = dict(beta=6.0)  # mdistiller's
# The last two stages have maps of the same size, of which 'auto' uses only the last.
vgg_after = [f'backbone.layer{stage}' for stage in range(2, 6)]
vgg_before = [dict(module=layer, before_activation=True) for layer in vgg_after]
distpro = dict(transmitters=['backbone.layer1', *vgg_after], receivers=['backbone.layer1', *vgg_after])
stages = [(-4, -4), (-3, -3), (-2, -2), (-1, -1)]
before = [dict(module='backbone.layer1', before_activation=True), *vgg_before]
published_layers = dict(transmitters=before, receivers=before)
layers_before = dict(transmitters=vgg_before, receivers=vgg_before)
layers_after = dict(transmitters=vgg_after, receivers=vgg_after)
reviewkd_options = dict(connections=stages, transmitters=vgg_before, receivers=vgg_after)  # its weight is not published
lskd_dkd_loss = dict(beta=2.0, loss_weight=15.0)  # LSKD's release
