# The demo's pair.
_base_ = '../tasks/digits.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet20
student = _base_.resnet8_half
teacher_ckpt = 'work_dirs/resnet20_digits/epoch_60.pth'
