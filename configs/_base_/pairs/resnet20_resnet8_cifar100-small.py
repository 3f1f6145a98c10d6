# A pair for comparisons on a CPU. The teacher is trained on all images of CIFAR-100.
_base_ = '../tasks/cifar100_small.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet20
student = _base_.resnet8
teacher_ckpt = 'work_dirs/resnet20_cifar100-16px/epoch_20.pth'
