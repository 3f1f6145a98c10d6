# The full-size comparison on CIFAR-100, for GPUs: the literature's schedule of 240 epochs, and a twelfth, a quarter and half
# of it. Grids include the weight that is published for the pair, if there is one; then the weight of the cross-entropy, if the
# method lowers it, and the learning rate. Settings are chosen on images held out of the training set, at a twelfth of
# the schedule. Runs are evaluated every tenth epoch.
_base_ = './distpro.py'
distiller = 'model.distiller'
kd_weights = {_base_.kd_weight: [1 / 3, 1, 3]}
rates, cross_entropy = _base_.rates, _base_.cross_entropy


def scaled(config, option, *more):  # around the weight of the pair's config
    grid = {f'{distiller}.{option}': dict(factors=[1 / 3, 1, 3])}
    for keys in more:
        grid.update(keys)
    return dict(config=f'../baselines/{config}.py', grid=grid)


benchmark = dict(
    stages=_base_.searches,
    methods=dict(
        student=dict(config='../baselines/student.py', grid=rates),
        kd=dict(
            config='../baselines/kd.py', grid={f'{distiller}.distill_losses.loss_kl.loss_weight': [0.3, 0.9, 2.7], **rates}),
        kd_schedule=scaled('kd_schedule', 'distill_losses.loss_kl.loss_weight', _base_.schedule, rates),
        equal=dict(config='../baselines/equal.py', options=_base_.pathways, grid={**kd_weights, **rates}),
        distpro=dict(_base_.distpro, grid=rates),
        **_base_.controls,
        random_search=dict(_base_.random_search, grid=rates),
        published=dict(_base_.published, options={**_base_.published.options, **_base_.scaled},
                       grid={**kd_weights, **rates}),
        published_uniform=_base_.published_uniform,
        reviewkd=dict(config='../baselines/reviewkd.py', grid={f'{distiller}.loss.loss_weight': [0.6, 1, 3, 8], **rates}),
        dkd=dict(
            config='../baselines/dkd.py', grid={f'{distiller}.distill_losses.loss_dkd.beta': [1, 2, 6, 8], **rates}),
        dist=dict(
            config='../baselines/dist.py', grid={f'{distiller}.distill_losses.loss_dist.loss_weight': [2 / 3, 2, 6], **rates}),
        crd=dict(config='../baselines/crd.py', grid={f'{distiller}.loss.loss_weight': [0.27, 0.8, 2.4], **rates}),
        norm=dict(config='../baselines/norm.py', grid={f'{distiller}.weights': [[1 / 3], [1], [3]], **cross_entropy, **rates}),
        lskd=scaled('lskd', 'distill_losses.loss_kl.loss_weight', cross_entropy, rates),
        lskd_dkd=scaled('lskd_dkd', 'distill_losses.loss_dkd.loss_weight', rates),
        mlkd=scaled('mlkd', 'distill_losses.loss_levels.loss_weight', cross_entropy, rates),
        ctkd=scaled('ctkd', 'distill_losses.loss_kl.loss_weight', cross_entropy, rates),
        kdpp=scaled('kdpp', 'loss.loss_weight', {
            f'{distiller}.distill_losses.loss_kl.loss_weight': dict(factors=[1 / 3, 1, 3])}, rates),
        wkd_l=scaled('wkd_l', 'distill_losses.loss_wkd.loss_weight', rates),
        wkd_f=scaled('wkd_f', 'loss.loss_weight', rates),
        srd=scaled('srd', 'loss.loss_weight', rates),
        vkd=scaled('vkd', 'loss.loss_weight', rates)),
    reference='kd',
    seeds=[0, 1, 2],
    budgets=[1 / 12, 0.25, 0.5, 1],
    evaluations=24,
    tuning=dict(ratio=0.2, seeds=[100], budget=1 / 12),
    extended_to=dict(compute_of='distpro', best_of=['kd', 'kd_schedule', 'equal', 'reviewkd', 'dkd', 'dist', 'wkd_f', 'lskd_dkd']))
