_base_ = '../_base_/benchmarks/cifar100_240e.py'
benchmark = dict(pair='wrn-40-2_wrn-16-2_cifar100', teacher='../teachers/wrn-40-2_cifar100.py')
