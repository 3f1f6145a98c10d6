# Accuracy against epochs and compute on CIFAR-100 at 16 x 16 pixels: 3, 10 and 30 epochs, each with its schedule. Methods
# have the settings that were chosen on held-out images in cifar100_small, with 3 of 10 epochs. Run with --teacher-ckpt
# docs/results/cifar100_small/teacher.pth.
_base_ = '../_base_/benchmarks/distpro.py'
distiller = 'model.distiller'
schedule = {'train_cfg.max_epochs': 30, 'train_cfg.val_interval': 30, 'param_scheduler.T_max': 30}


def tuned(config, **options):
    return dict(config=f'../baselines/{config}.py', options={
        **schedule, **{f'{distiller}.{option.replace("__", ".")}': value for option, value in options.items()}})


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    methods=dict(
        general=dict(  # the process 'general', made without the process of this pair
            config='../distpro/distill.py', options={
                **schedule, 'custom_hooks.0.process': 'configs/benchmarks/cifar100_frontier_process.json',
                'custom_hooks.0.transfer': 'by_depth'}),
        simkd=tuned('simkd', weights=[10]),
        kd=tuned('kd', distill_losses__loss_kl__loss_weight=9.0),
        reviewkd=tuned('reviewkd', loss__loss_weight=3.0),
        student=tuned('student')),
    reference='kd',
    seeds=[0, 1, 2],
    budgets=[0.1, 1 / 3, 1])
