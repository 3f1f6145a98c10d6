_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet50_cifar
student = _base_.mobilenetv2_half
teacher_ckpt = 'work_dirs/resnet50_cifar100/epoch_240.pth'
# The literature's 0.01 for batches of 64 is 0.02 for our 128, as in ReviewKD's release and DistPro's.
optim_wrapper = dict(optimizer=dict(lr=0.02))
stages = [(-4, -4), (-3, -3), (-2, -2), (-1, -1)]
layers_pooled = dict(transmitters=_base_.pooled, receivers=_base_.pooled)
reviewkd_options = dict(connections=stages, pooled='backbone')  # its weight is not published
kdpp_kl_loss = dict(loss_weight=3.0)  # KD++'s release
kdpp_nd_loss = dict(loss_weight=0.5)  # KD++'s release
lskd_dkd_loss = dict(beta=2.0, loss_weight=15.0)  # LSKD's release
