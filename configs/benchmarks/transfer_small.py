# What a process is worth on another student, and on another data set, than it was searched on. Run after cifar100_small and
# digits, whose processes it takes, and with --teacher-ckpt work_dirs/benchmark_cifar100_small/teacher/epoch_20.pth.
_base_ = '../_base_/benchmarks/distpro.py'


def carried(benchmark):
    return dict(config='../distpro/distill.py', options={
        'custom_hooks.0.transfer': 'by_depth',
        'custom_hooks.0.process': f'work_dirs/benchmark_{benchmark}/search/seed_0/process.json'})


benchmark = dict(
    pair='resnet20_resnet14_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(search=_base_.searches.search),
    methods=dict(
        equal=dict(
            config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: [1 / 3, 1, 3, 10]}),
        distpro=dict(config='../distpro/distill.py', after='search'),
        from_resnet8=carried('cifar100_small'),
        from_digits=carried('digits')),
    reference='equal',
    seeds=[0, 1],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3))
