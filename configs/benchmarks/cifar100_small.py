# Every method on CIFAR-100 at 16 x 16 pixels, for a CPU.
# Each seed has its own searches. The weight of each method is chosen among 1/30 to 10 times its published or default weight
# (more if the best one is at an edge), on images held out of the training set; then the weight of the cross-entropy, if the
# method lowers it, and the learning rate, of DistPro's forms and the best baselines.
_base_ = '../_base_/benchmarks/distpro.py'
factors = [1 / 30, 1 / 10, 1 / 3, 1, 3, 10]
distiller = 'model.distiller'
seeds = [0, 1, 2]


def weighted(config, option, default, *more, **others):
    grid = {f'{distiller}.{option}': [default * f for f in factors]}
    for keys in more:
        grid.update(keys)
    return dict(config=f'../baselines/{config}.py', grid=grid, budgets=[1], **others)


def weighted_pairs(config, default, *more):
    method = weighted(config, 'weights', 1, *more)
    method['grid'][f'{distiller}.weights'] = [[weight * f for weight in default] for f in factors]
    return method


rates, cross_entropy = _base_.rates, _base_.cross_entropy


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages={
        **_base_.searches,
        'search': dict(_base_.searches.search, seeds=seeds),
        'random_rounds': dict(_base_.searches.random_rounds, seeds=seeds),
        'ab_initial': dict(config='../baselines/ab_initial.py'),
        'ft_paraphraser': dict(config='../baselines/ft_paraphraser.py', shares_grid=False)
    },
    methods=dict(
        student=dict(config='../baselines/student.py', grid=rates),
        kd=dict(
            config='../baselines/kd.py',
            grid={f'{distiller}.distill_losses.loss_kl.loss_weight': [0.9 * f for f in factors], **rates}),
        kd_schedule=weighted('kd_schedule', 'distill_losses.loss_kl.loss_weight', 0.9, _base_.schedule, rates),
        equal=dict(
            config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: factors, **rates}),
        constant=dict(
            config='../baselines/constant.py', budgets=[1], grid=[
                {'custom_hooks.0.process.weights': dict(features=[features] * 2, logits=[logits] * 2)}
                for features in (10, 30, 100, 300) for logits in (1, 3, 10, 30)]),
        ramp=dict(  # hand-tuned schedules: from 3, a third of the best constant weight, up to one of four weights
            config='../baselines/ramp.py', options={**_base_.pathways, 'custom_hooks.0.process.unit': 'loss'},
            grid={'custom_hooks.0.process.weights': [[3, 5, 10], [3, 10, 30], [3, 17, 100], [3, 30, 300]], **rates}),
        distpro=dict(_base_.distpro, grid=rates),
        first_round=dict(_base_.first_round, budgets=[0.5, 1], grid=rates),
        **_base_.controls,
        random_search=dict(_base_.random_search, budgets=[0.5, 1], grid=rates),
        evolution_search=dict(_base_.evolution_search, grid=rates),
        published=dict(
            _base_.published, options={**_base_.published.options, **_base_.scaled, 'custom_hooks.0.skip_below': 0.5},
            grid={_base_.kd_weight: factors, **rates}),
        published_uniform=dict(_base_.published_uniform, budgets=[1]),
        reviewkd=weighted('reviewkd', 'loss.loss_weight', 1.0, rates),
        dkd=weighted('dkd', 'distill_losses.loss_dkd.beta', 8.0, rates),
        dist=weighted('dist', 'distill_losses.loss_dist.loss_weight', 2.0, rates),
        mlkd=weighted('mlkd', 'distill_losses.loss_levels.loss_weight', 0.45, cross_entropy),
        lskd=weighted('lskd', 'distill_losses.loss_kl.loss_weight', 9.0, cross_entropy),
        lskd_dkd=weighted('lskd_dkd', 'distill_losses.loss_dkd.loss_weight', 9.0, rates),
        ctkd=weighted('ctkd', 'distill_losses.loss_kl.loss_weight', 0.9, cross_entropy),
        kdpp=weighted('kdpp', 'loss.loss_weight', 2.0, {
            f'{distiller}.distill_losses.loss_kl.loss_weight': [1 / 3, 1, 3]}, rates),
        wkd_l=weighted('wkd_l', 'distill_losses.loss_wkd.loss_weight', 600.0, rates),
        wkd_f=weighted('wkd_f', 'loss.loss_weight', 0.08, rates),
        srd=weighted('srd', 'loss.loss_weight', 2.0, rates),
        vkd=weighted('vkd', 'loss.loss_weight', 1.0, rates),
        scalekd=dict(
            config='../baselines/scalekd.py', budgets=[1],
            grid=[{f'{distiller}.weights.spatial': 0.08 * f, f'{distiller}.weights.frequency': 0.06 * f} for f in factors]),
        ickd=dict(
            config='../baselines/ickd.py', budgets=[1],
            grid={f'{distiller}.loss.weights': [[f, f] for f in factors],
                  f'{distiller}.distill_losses.loss_kl.loss_weight': [0.3, 0.9, 2.7]}),
        pursuhint=weighted('pursuhint', 'loss.loss_weight', 33.0, {
            f'{distiller}.distill_losses.loss_kl.loss_weight': [0.3, 0.9, 2.7]}),
        wsld=weighted('wsld', 'distill_losses.loss_wsld.loss_weight', 2.5),
        rkd=dict(
            config='../baselines/rkd.py', budgets=[1],
            grid=[{f'{distiller}.distill_losses.loss_distance.loss_weight': 25 * f,
                   f'{distiller}.distill_losses.loss_angle.loss_weight': 50 * f} for f in factors]),
        fitnet=weighted('fitnet', 'loss.loss_weight', 100.0),
        at=weighted('at', 'loss.loss_weight', 1000.0),
        sp=weighted('sp', 'loss.loss_weight', 3000.0),
        cc=weighted('cc', 'loss.loss_weight', 100.0),
        vid=weighted_pairs('vid', [1, 1, 1]),
        crd=weighted('crd', 'loss.loss_weight', 0.8),
        ofd=weighted_pairs('ofd', [0.25, 0.5, 1], rates),
        ab=dict(  # no grid, because its second stage has no distillation loss
            config='../baselines/ab.py', options={'model.init_cfg.checkpoint': 'stage://ab_initial/checkpoint'},
            budgets=[1]),
        ft=weighted(
            'ft', 'loss.loss_weight', 500.0,
            options={f'{distiller}.teacher_connector.init_cfg.checkpoint': 'stage://ft_paraphraser/checkpoint'}),
        cwd=weighted('cwd', 'loss.loss_weight', 5.0),
        mgd=weighted('mgd', 'loss.alpha_mgd', 7e-5),
        pkd=weighted('pkd', 'loss.loss_weight', 6.0, rates),
        simkd=weighted_pairs('simkd', [1], rates),
        atsc=weighted_pairs('atsc', [1], {'model.proximity': [0.1, 1.0, 10.0]}, rates),
        norm=weighted_pairs('norm', [1], cross_entropy),
        l2tww=dict(config='../baselines/l2tww.py', budgets=[1])),  # no grid, because a run costs nine times as much
    reference='kd',
    seeds=seeds,
    budgets=[0.1, 0.2, 0.3, 0.5, 1],
    evaluations=5,
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3),
    extended_to=dict(compute_of='distpro', best_of=['kd', 'kd_schedule', 'equal', 'reviewkd', 'dkd', 'ofd', 'pkd', 'simkd', 'wkd_f']))
