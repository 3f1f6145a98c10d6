# 8 epochs: a short schedule, where distillation has most to give.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=8, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=8, val_interval=8)
