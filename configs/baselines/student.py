# The student alone, without a teacher.
_base_ = '../_base_/pairs/{{$PAIR:resnet56_resnet20_cifar100}}.py'
model = _base_.student
