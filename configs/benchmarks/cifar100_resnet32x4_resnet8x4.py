_base_ = '../_base_/benchmarks/cifar100_240e.py'
benchmark = dict(pair='resnet32x4_resnet8x4_cifar100', teacher='../teachers/resnet32x4_cifar100.py')
