# ReviewKD (Chen et al., CVPR 2021): every student map, joined with all deeper ones, against the teacher's. The weight is
# tuned by hand for every pair: 0.6 is the release's for resnet56-resnet20 (1 for resnet110-resnet32, 5 to 8 for wide
# ones). It is raised over the first 20 of 240 epochs.
reviewkd = dict(type='ReviewKDDistiller', loss=dict(type='HCLLoss', loss_weight=0.6))
reviewkd_warm_up = dict(type='mmrazor.DistillWarmUpHook', epochs=20)
