# Setting f of DistPro's release.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.pyramidnet200
student = _base_.pyramidnet110
teacher_ckpt = 'work_dirs/pyramidnet200_cifar100/epoch_240.pth'
layers_before = dict(transmitters=_base_.wrn_before, receivers=_base_.wrn_before)
layers_pooled = dict(transmitters=_base_.pooled, receivers=_base_.pooled)
reviewkd_options = dict(transmitters=_base_.wrn_before, pooled='backbone')
