# A pair for benchmarks on a CPU: the schedule and images of cifar100_small at another resolution.
_base_ = '../tasks/cifar100_12px.py'
pair = '{{ fileBasenameNoExtension }}'
teacher = _base_.resnet20
student = _base_.resnet8
teacher_ckpt = 'work_dirs/resnet20_cifar100-12px/epoch_20.pth'
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True, type='HeldOutSplit', part='held_out', ratio=0.3, dataset=_base_.train_dataloader.dataset.dataset)))
param_scheduler = dict(T_max=10)
train_cfg = dict(max_epochs=10, val_interval=10)
