# The second stage: continues from the weights of ab_initial.py.
_base_ = './student.py'
model = dict(
    _base_.student,
    _delete_=True,
    init_cfg=dict(
        type='Pretrained',
        checkpoint=f'work_dirs/{_base_.pair}/ab_initial/epoch_{_base_.ab_stage.train_cfg.max_epochs}.pth',
        prefix='architecture.'))
