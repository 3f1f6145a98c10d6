# A pair for benchmarks on a CPU.
_base_ = '../tasks/cifar100_16px.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet20
student = _base_.resnet8
teacher_ckpt = 'work_dirs/resnet20_cifar100-16px/epoch_20.pth'
