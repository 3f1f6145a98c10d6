# 20 epochs of 6 iterations: a short schedule, for which distillation helps most.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=20, val_interval=20)
# Schedules of a published search and of the first stages of AB and FT, and epochs of the warm-up of a loss.
search_stage = dict(param_scheduler=dict(), train_cfg=dict(max_epochs=20, val_interval=20))
ab_stage = dict(param_scheduler=dict(T_max=5), train_cfg=dict(max_epochs=5, val_interval=5))
ft_stage = dict(param_scheduler=dict(T_max=10), train_cfg=dict(max_epochs=10, val_interval=10))
warm_up_epochs = 2
