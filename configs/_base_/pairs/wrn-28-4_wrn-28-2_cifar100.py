# Setting b of DistPro's release.
_base_ = '../tasks/cifar100_preactivated.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.wrn_28_4
student = _base_.wrn_28_2
teacher_ckpt = 'work_dirs/wrn-28-4_cifar100/epoch_240.pth'
