_base_ = [
    '../_base_/runtime/default.py', '../_base_/datasets/{{$CIFAR100:cifar100}}.py', '../_base_/networks/cifar_networks.py',
    '../_base_/schedules/cifar_240e.py'
]
model = _base_.wrn_28_4
