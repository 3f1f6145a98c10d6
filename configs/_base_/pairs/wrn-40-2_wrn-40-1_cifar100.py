# Setting h of DistPro's release.
_base_ = '../tasks/cifar100_preactivated.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.wrn_40_2
student = _base_.wrn_40_1
teacher_ckpt = 'work_dirs/wrn-40-2_cifar100/epoch_240.pth'
dkd_loss = dict(beta=6.0)  # mdistiller's
reviewkd_loss = dict(loss_weight=5.0)  # ReviewKD's release
kdpp_kl_loss = dict(loss_weight=1.0)  # KD++'s release
kdpp_nd_loss = dict(loss_weight=1.5)  # KD++'s release
lskd_dkd_loss = dict(beta=2.0, loss_weight=12.0)  # LSKD's release
