# Setting n of DistPro's release.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet110
student = _base_.resnet32
teacher_ckpt = 'work_dirs/resnet110_cifar100/epoch_240.pth'
dkd_loss = dict(beta=2.0)  # mdistiller's
reviewkd_loss = dict(loss_weight=1.0)  # ReviewKD's release
lskd_dkd_loss = dict(loss_weight=15.0)  # LSKD's release
