# A second student for comparisons on a CPU, to which a process is transferred.
_base_ = '../tasks/cifar100_small.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet20
student = _base_.resnet14
teacher_ckpt = 'work_dirs/resnet20_cifar100-16px/epoch_20.pth'
