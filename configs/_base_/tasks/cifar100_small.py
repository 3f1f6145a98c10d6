# CIFAR-100 at 16 x 16 pixels for comparisons on a CPU: 10 epochs on 30% of the training images. A run takes two minutes, and a
# budget of 0.1 is an epoch.
_base_ = './cifar100_16px.py'
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True, type='HeldOutSplit', part='held_out', ratio=0.3, dataset=_base_.train_dataloader.dataset.dataset)))
param_scheduler = dict(T_max=10)
train_cfg = dict(max_epochs=10, val_interval=10)
round_share = 0.3
search_stage = dict(param_scheduler=dict(T_max=10), train_cfg=dict(max_epochs=10, val_interval=10))
crd_loss = dict(sample_n=50000, neg_num=1024)
replay = dict()
