# Setting g of DistPro's release.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.wrn_40_2
student = _base_.wrn_16_2
teacher_ckpt = 'work_dirs/wrn-40-2_cifar100/epoch_240.pth'
dkd_loss = dict(beta=6.0)  # mdistiller's
reviewkd_loss = dict(loss_weight=5.0)  # its release's
layers_before = dict(transmitters=_base_.wrn_before, receivers=_base_.wrn_before)
layers_pooled = dict(transmitters=_base_.pooled, receivers=_base_.pooled)
reviewkd_options = dict(transmitters=_base_.wrn_before, pooled='backbone')
