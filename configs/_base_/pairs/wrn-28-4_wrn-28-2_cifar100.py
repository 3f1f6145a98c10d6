# Setting b of DistPro's release.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.wrn_28_4
student = _base_.wrn_28_2
teacher_ckpt = 'work_dirs/wrn-28-4_cifar100/epoch_240.pth'
layers_before = dict(transmitters=_base_.wrn_before, receivers=_base_.wrn_before)
layers_pooled = dict(transmitters=_base_.pooled, receivers=_base_.pooled)
reviewkd_options = dict(transmitters=_base_.wrn_before, pooled='backbone')
