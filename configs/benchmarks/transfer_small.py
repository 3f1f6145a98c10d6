# What a process is worth on another student than it was searched with. Run after cifar100_small, whose process it takes, and
# with --teacher-ckpt work_dirs/benchmark_cifar100_small/teacher/epoch_20.pth.
_base_ = '../_base_/benchmarks/distpro.py'
carried = {'custom_hooks.0.transfer': 'by_depth'}
benchmark = dict(
    pair='resnet20_resnet14_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(search=_base_.searches.search),
    methods=dict(
        equal=dict(
            config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: [1 / 3, 1, 3, 10]}),
        distpro=dict(config='../distpro/distill.py', after='search'),
        carried=dict(
            config='../distpro/distill.py',
            options={**carried, 'custom_hooks.0.process': 'work_dirs/benchmark_cifar100_small/search/seed_0/process.json'})),
    reference='equal',
    seeds=[0, 1],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3))
