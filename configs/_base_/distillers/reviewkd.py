# ReviewKD (Chen et al., CVPR 2021): every student map, fused with all deeper ones, against the teacher's. The pair sets
# the weight, which the release tuned by hand from 0.6 to 8. It rises over the first epochs, 20 of 240.
reviewkd = dict(type='ReviewKDDistiller', loss=dict(type='HCLLoss'))
reviewkd_warm_up = dict(type='mmrazor.LossScheduleHook')
