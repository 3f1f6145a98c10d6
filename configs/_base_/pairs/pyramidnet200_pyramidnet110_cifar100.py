# Setting f of DistPro's release.
_base_ = '../tasks/cifar100_preactivated.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.pyramidnet200
student = _base_.pyramidnet110
teacher_ckpt = 'work_dirs/pyramidnet200_cifar100/epoch_240.pth'
