# Setting j of DistPro's release.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet32x4
student = _base_.resnet8x4
teacher_ckpt = 'work_dirs/resnet32x4_cifar100/epoch_240.pth'
reviewkd_loss = dict(loss_weight=5.0)  # ReviewKD's release
kdpp_kl_loss = dict(loss_weight=3.5)  # KD++'s release
kdpp_nd_loss = dict(loss_weight=2.0)  # KD++'s release
