# Learning what and where to transfer (L2T-ww; Jang et al., ICML 2019): meta networks weigh the teacher's channels and the
# nine pairs of stages. beta 0.5, 2 inner steps, Adam of 1e-4 for the meta networks: the release's, which has other pairs
# of networks. A config trains it with l2tww_loop and l2tww_optimisers.
l2tww = dict(
    type='L2TDistiller',
    connections=[(i, j) for i in (-3, -2, -1) for j in (-3, -2, -1)],
    beta=0.5)
l2tww_loop = dict(type='mmrazor.L2TTrainLoop', inner_steps=2)
l2tww_optimisers = dict(
    constructor='mmrazor.L2TOptimWrapperConstructor',
    meta=dict(optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4)))
