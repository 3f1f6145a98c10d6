# The second stage: trained on from the activation boundaries of ab_initial_resnet56_resnet20_cifar100.py.
_base_ = './student_resnet20_cifar100.py'
model = dict(
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/ab_initial_resnet56_resnet20_cifar100/epoch_30.pth',
        prefix='architecture.'))
