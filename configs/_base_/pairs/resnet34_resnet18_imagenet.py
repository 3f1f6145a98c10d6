# The teacher is from mmpretrain's model zoo.
_base_ = '../tasks/imagenet.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet34
student = _base_.resnet18
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'
dkd_loss = dict(beta=0.5)  # mdistiller's
reviewkd_loss = dict(loss_weight=1.0)  # ReviewKD's release
wkd_l_loss = dict(loss_weight=30.0)  # WKD's release
wkd_f_loss = dict(loss_weight=0.02)  # WKD's release
