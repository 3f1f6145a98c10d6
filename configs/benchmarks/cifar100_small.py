# Every method on CIFAR-100 at 16 x 16 pixels, for a CPU.
# Each seed has searches of its own. Each method tries from a thirtieth to ten times its usual weight on images held out of the
# training set.
_base_ = '../_base_/benchmarks/distpro.py'
factors = [1 / 30, 1 / 10, 1 / 3, 1, 3, 10]
distiller = 'model.distiller'
seeds = [0, 1, 2]


def weighed(config, option, usual, **others):
    return dict(config=f'../baselines/{config}.py', grid={f'{distiller}.{option}': [usual * f for f in factors]},
                budgets=[1], **others)


def weighed_pairs(config, *usual):
    return dict(config=f'../baselines/{config}.py', budgets=[1],
                grid={f'{distiller}.weights': [[weight * f for weight in usual] for f in factors]})


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages={
        **_base_.searches,
        'search': dict(_base_.searches.search, seeds=seeds),
        'random_rounds': dict(_base_.searches.random_rounds, seeds=seeds),
        'ab_initial': dict(config='../baselines/ab_initial.py'),
        'ft_paraphraser': dict(config='../baselines/ft_paraphraser.py', shares=False)
    },
    methods=dict(
        student='../baselines/student.py',
        kd=dict(
            config='../baselines/kd.py',
            grid={f'{distiller}.distill_losses.loss_kl.loss_weight': [0.9 * f for f in factors]}),
        equal=dict(config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: factors}),
        ramp=dict(  # a hand's course: from 3, a third of the best constant weight, up to one of four
            config='../baselines/ramp.py', options={**_base_.pathways, 'custom_hooks.0.process.unit': 'loss'},
            grid={'custom_hooks.0.process.weights': [[3, 5, 10], [3, 10, 30], [3, 17, 100], [3, 30, 300]]}),
        distpro=dict(config='../distpro/distill.py', after='search'),
        first_round=dict(_base_.first_round, budgets=[0.5, 1]),
        **_base_.controls,
        random_search=dict(_base_.random_search, budgets=[0.5, 1]),
        evolution_search=_base_.evolution_search,
        published=dict(
            config='../distpro/published_distill.py', options={**_base_.scaled, 'custom_hooks.0.skip_below': 0.5},
            after='published_search', grid={_base_.kd_weight: factors}),
        published_uniform=dict(_base_.published_uniform, budgets=[1]),
        reviewkd=weighed('reviewkd', 'loss.loss_weight', 1.0),
        dkd=weighed('dkd', 'distill_losses.loss_dkd.beta', 8.0),
        dist=weighed('dist', 'distill_losses.loss_dist.loss_weight', 2.0),
        mlkd=weighed('mlkd', 'distill_losses.loss_levels.loss_weight', 0.45),
        lskd=weighed('lskd', 'distill_losses.loss_kl.loss_weight', 9.0),
        wsld=weighed('wsld', 'distill_losses.loss_wsld.loss_weight', 2.5),
        rkd=dict(
            config='../baselines/rkd.py', budgets=[1],
            grid=[{f'{distiller}.distill_losses.loss_distance.loss_weight': 25 * f,
                   f'{distiller}.distill_losses.loss_angle.loss_weight': 50 * f} for f in factors]),
        fitnet=weighed('fitnet', 'loss.loss_weight', 100.0),
        at=weighed('at', 'loss.loss_weight', 1000.0),
        sp=weighed('sp', 'loss.loss_weight', 3000.0),
        cc=weighed('cc', 'loss.loss_weight', 100.0),
        vid=weighed_pairs('vid', 1, 1, 1),
        crd=weighed('crd', 'loss.loss_weight', 0.8),
        ofd=weighed_pairs('ofd', 0.25, 0.5, 1),
        ab=dict(config='../baselines/ab.py', after='ab_initial', budgets=[1]),  # its second stage has no weight
        ft=weighed('ft', 'loss.loss_weight', 500.0, after='ft_paraphraser'),
        cwd=weighed('cwd', 'loss.loss_weight', 5.0),
        mgd=weighed('mgd', 'loss.alpha_mgd', 7e-5),
        pkd=weighed('pkd', 'loss.loss_weight', 6.0),
        simkd=weighed_pairs('simkd', 1),
        norm=weighed_pairs('norm', 1),
        l2tww=dict(config='../baselines/l2tww.py', budgets=[1])),  # nine times the cost of a run: its usual weight alone
    reference='kd',
    seeds=seeds,
    budgets=[0.1, 0.2, 0.3, 0.5, 1],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3),
    longer=dict(than='distpro', of=['kd', 'equal', 'reviewkd', 'dkd', 'ofd', 'pkd', 'simkd']))
