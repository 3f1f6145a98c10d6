# CIFAR-100 at 32 x 32 pixels on a GPU, in short trainings of large batches, each with its schedule. KD has 15, 20
# and 45 epochs too: 20 and 45 take about as long as the process with 10 and 30. No setting is tuned here: KD has its default
# weight and the one that was chosen at 16 x 16 pixels, SimKD the latter, ReviewKD the weight that is published for the pair.
# The images are those in data/cifar100.
_base_ = '../_base_/benchmarks/distpro.py'
epochs = int('{{$EPOCHS:45}}')
schedule = {
    'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': epochs, 'train_dataloader.batch_size': 256,
    'param_scheduler': [dict(type='CosineAnnealingLR', by_epoch=True, T_max=epochs, convert_to_iter_based=True)]
}
short, long = [2 / 9, 2 / 3], [2 / 9, 1 / 3, 4 / 9, 2 / 3, 1]


def method(config, budgets, **options):
    return dict(config=f'../{config}.py', budgets=budgets, options={**schedule, **options})


benchmark = dict(
    pair='resnet32x4_resnet8x4_cifar100',
    teacher='../teachers/resnet32x4_cifar100_short.py',
    methods=dict(
        general=method(  # the process 'general', made without the process of this pair
            'distpro/distill', short, **{'custom_hooks.0.process': 'configs/benchmarks/cifar100_gpu_process.json',
                                         'custom_hooks.0.transfer': 'by_depth'}),
        kd=method('baselines/kd', long),
        kd_9=method('baselines/kd', short, **{'model.distiller.distill_losses.loss_kl.loss_weight': 9.0}),
        simkd=method('baselines/simkd', short, **{'model.distiller.weights': [10]}),
        reviewkd=method('baselines/reviewkd', short, **{'custom_hooks.0.warm_up_epochs': max(1, epochs // 12)}),
        student=method('baselines/student', short),
        searched=method(  # the pair's own process, searched with 120 images of each class
            'distpro/distill_searched', short,
            **{**_base_.all_pathways, 'custom_hooks.0.process': 'cifar100-32px/resnet32x4-resnet8x4'})),
    reference='kd',
    seeds=[int(seed) for seed in '{{$SEEDS:0,1,2}}'.split(',')],
    budgets=short)
