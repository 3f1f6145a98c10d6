_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.vgg13
student = _base_.vgg8
teacher_ckpt = 'work_dirs/vgg13_cifar100/epoch_240.pth'
dkd_loss = dict(beta=6.0)  # mdistiller's
# The last two stages have maps of the same size, of which 'auto' uses only the last.
layers = [f'backbone.layer{stage}' for stage in range(1, 6)]
before = [dict(module=layer, before_activation=True) for layer in layers]
vgg_after, vgg_before = layers[1:], before[1:]
distpro = dict(transmitters=layers, receivers=layers)
stages = [(-4, -4), (-3, -3), (-2, -2), (-1, -1)]
published_layers = dict(transmitters=before, receivers=before)
layers_before = dict(transmitters=vgg_before, receivers=vgg_before)
layers_after = dict(transmitters=vgg_after, receivers=vgg_after)
reviewkd_options = dict(connections=stages, transmitters=vgg_before, receivers=vgg_after)  # its weight is not published
lskd_dkd_loss = dict(beta=2.0, loss_weight=15.0)  # LSKD's release
