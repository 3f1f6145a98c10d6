# The second stage: trained on from the activation boundaries of ab_initial_resnet20_resnet8-half_digits.py.
_base_ = './student_resnet8-half_digits.py'
model = dict(
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/ab_initial_resnet20_resnet8-half_digits/epoch_5.pth',
        prefix='architecture.'))
