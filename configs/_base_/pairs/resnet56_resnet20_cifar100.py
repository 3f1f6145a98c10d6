# Setting m of DistPro's release, and the default pair.
_base_ = '../tasks/cifar100.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet56
student = _base_.resnet20
teacher_ckpt = 'work_dirs/resnet56_cifar100/epoch_240.pth'
dkd_loss = dict(beta=2.0)  # mdistiller's
reviewkd_loss = dict(loss_weight=0.6)  # ReviewKD's release
lskd_dkd_loss = dict(tau=3, loss_weight=18.0)  # LSKD's release
