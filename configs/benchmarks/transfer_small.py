# Transfer of a process to a different student, and from a different data set. Run it after cifar100_small and digits, whose
# processes it replays, and with --teacher-ckpt work_dirs/benchmark_cifar100_small/teacher/epoch_20.pth.
_base_ = '../_base_/benchmarks/distpro.py'


def transferred(benchmark):
    return dict(config='../distpro/distill_searched.py', options={
        **_base_.all_pathways, 'custom_hooks.0.transfer': 'by_depth',
        'custom_hooks.0.process': f'work_dirs/benchmark_{benchmark}/search/seed_0/process.json'})


benchmark = dict(
    pair='resnet20_resnet14_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(search=_base_.searches.search),
    methods=dict(
        equal=dict(
            config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: [1 / 3, 1, 3, 10]}),
        distpro=_base_.distpro,
        from_resnet8=transferred('cifar100_small'),
        from_digits=transferred('digits')),
    reference='equal',
    seeds=[0, 1],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3))
