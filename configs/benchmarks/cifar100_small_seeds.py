# More seeds for the rows of cifar100_small that differ too little for three seeds. Each seed has its own searches. Methods that
# were tuned there have the settings that were chosen there. Run with --teacher-ckpt work_dirs/benchmark_cifar100_small/teacher/epoch_20.pth.
_base_ = '../_base_/benchmarks/distpro.py'
seeds = [3, 4, 5, 6]

benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(
        search=dict(_base_.searches.search, seeds=seeds),
        random_rounds=dict(  # 13 rounds, not 9: some random schedules diverge early, so that 9 rounds cost 0.7 of the search
            _base_.searches.random_rounds, seeds=seeds,
            options={**_base_.searches.random_rounds.options, 'train_cfg.rounds': 13})),
    methods=dict(
        distpro=_base_.distpro,
        random_search=dict(_base_.random_search, budgets=[0.5, 1]),
        ramp=dict(
            config='../baselines/ramp.py', budgets=[1],
            options={**_base_.pathways, 'custom_hooks.0.process.unit': 'loss',
                     'custom_hooks.0.process.weights': [3, 17, 100]}),
        simkd=dict(config='../baselines/simkd.py', budgets=[1], options={'model.distiller.weights': [10]})),
    reference='random_search',
    seeds=seeds,
    budgets=[0.5, 1])
