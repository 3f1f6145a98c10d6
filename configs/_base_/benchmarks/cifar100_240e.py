# The full-size comparison on CIFAR-100, for GPUs: the literature's schedule of 240 epochs, and a twelfth, a quarter and half
# of it. Grids include the weight that is published for the pair, if there is one. Settings are chosen on images held out of the
# training set, at a twelfth of the schedule.
_base_ = './distpro.py'
distiller = 'model.distiller'
kd_weights = {_base_.kd_weight: [1 / 3, 1, 3]}
benchmark = dict(
    stages=_base_.searches,
    methods=dict(
        student='../baselines/student.py',
        kd=dict(
            config='../baselines/kd.py', grid={f'{distiller}.distill_losses.loss_kl.loss_weight': [0.3, 0.9, 2.7]}),
        equal=dict(config='../baselines/equal.py', options=_base_.pathways, grid=kd_weights),
        distpro=_base_.distpro,
        **_base_.controls,
        random_search=_base_.random_search,
        published=dict(_base_.published, options={**_base_.published.options, **_base_.scaled}, grid=kd_weights),
        published_uniform=_base_.published_uniform,
        reviewkd=dict(config='../baselines/reviewkd.py', grid={f'{distiller}.loss.loss_weight': [0.6, 1, 3, 8]}),
        dkd=dict(config='../baselines/dkd.py', grid={f'{distiller}.distill_losses.loss_dkd.beta': [1, 2, 6, 8]}),
        dist=dict(
            config='../baselines/dist.py', grid={f'{distiller}.distill_losses.loss_dist.loss_weight': [2 / 3, 2, 6]}),
        crd=dict(config='../baselines/crd.py', grid={f'{distiller}.loss.loss_weight': [0.27, 0.8, 2.4]}),
        norm=dict(config='../baselines/norm.py', grid={f'{distiller}.weights': [[1 / 3], [1], [3]]})),
    reference='kd',
    seeds=[0, 1, 2],
    budgets=[1 / 12, 0.25, 0.5, 1],
    tuning=dict(ratio=0.2, seeds=[100], budget=1 / 12),
    extended_to=dict(compute_of='distpro', best_of=['kd', 'equal', 'reviewkd', 'dkd', 'dist']))
