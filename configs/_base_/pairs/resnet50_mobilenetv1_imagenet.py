# The teacher is from mmpretrain's model zoo.
_base_ = '../tasks/imagenet.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet50
student = _base_.mobilenetv1
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
dkd_loss = dict(beta=2.0)  # mdistiller's
reviewkd_loss = dict(loss_weight=8.0)  # ReviewKD's release
reviewkd_options = dict(max_mid_channels=256)  # ReviewKD's release
wkd_l_loss = dict(sharpness=2.0, loss_weight=25.0)  # WKD's release
wkd_f_loss = dict(loss_weight=0.005)  # WKD's release
wkd_f_decay = 0.7  # WKD's release
kdpp_kl_loss = dict(loss_weight=4.0)  # KD++'s release
