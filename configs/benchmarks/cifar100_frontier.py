# Accuracy against epochs and compute on CIFAR-100 at 16 x 16 pixels: 1, 3, 10, 30 and 100 epochs, each with its schedule. Methods
# have the settings that were chosen on held-out images in cifar100_small, with 3 of 10 epochs. Run with --teacher-ckpt
# docs/results/cifar100_small/teacher.pth. Those with a warm-up have the settings of cifar100_warm_up, chosen with 10 epochs, but
# for SimKD's weight, chosen with 30.
_base_ = '../_base_/benchmarks/distpro.py'
distiller = 'model.distiller'
schedule = {'train_cfg.max_epochs': 100, 'train_cfg.val_interval': 100, 'param_scheduler.T_max': 100}


def tuned(config, options=(), **settings):
    return dict(config=f'../baselines/{config}.py', options={
        **schedule, **dict(options), **{f'{distiller}.{key.replace("__", ".")}': value for key, value in settings.items()}})


def warmed_up(method, lr):
    options = {key: value for key, value in method['options'].items() if key != 'param_scheduler.T_max'}
    warm_up = dict(type='LinearLR', start_factor=0.05, begin=0, end=3120, by_epoch=False)
    cosine = dict(type='CosineAnnealingLR', T_max=100, by_epoch=True, convert_to_iter_based=True)
    return dict(method, options={
        **options, 'optim_wrapper.optimizer.lr': lr, 'param_scheduler': [warm_up, cosine]})


general = dict(config='../distpro/distill.py', options={**schedule, **_base_.general_process})
hints = tuned('pursuhint', loss__loss_weight=33.0, distill_losses__loss_kl__loss_weight=8.1)
kd = tuned('kd', distill_losses__loss_kl__loss_weight=9.0)


def constant(features, logits):
    return tuned('constant', {'custom_hooks.0.process.weights': dict(features=[features] * 2, logits=[logits] * 2)})


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(refine=dict(  # of trainings of ten epochs, in rounds of three
        config='../distpro/refine.py', seeds=[0],
        options={'train_cfg.initial': _base_.general_process['custom_hooks.0.process']})),
    methods=dict(
        general=general,
        refined=dict(config='../distpro/distill_refined.py', options={
            **schedule, 'custom_hooks.0.process': 'stage://refine/process'}),
        simkd=tuned('simkd', weights=[10]),
        kd=kd,
        reviewkd=tuned('reviewkd', loss__loss_weight=3.0),
        dkd=tuned('dkd', distill_losses__loss_dkd__beta=8 / 3),
        wkd_f=tuned('wkd_f'),
        srd=tuned('srd', {'optim_wrapper.optimizer.lr': 0.3}, loss__loss_weight=2.0),
        pursuhint=hints,
        kd_schedule=tuned(
            'kd_schedule', {'custom_hooks.0.warm_up': 0.9, 'custom_hooks.0.decay': 0.0, 'custom_hooks.1.warm_up': 0.0},
            distill_losses__loss_kl__loss_weight=30.0),
        constant=constant(300, 10),
        ramp=tuned('ramp', {
            **_base_.pathways, 'custom_hooks.0.process.unit': 'loss', 'custom_hooks.0.process.weights': [3, 17, 100]}),
        student=tuned('student'),
        general_warm_up=warmed_up(general, 0.3),
        simkd_warm_up=warmed_up(tuned('simkd', weights=[30]), 0.3),
        pursuhint_warm_up=warmed_up(hints, 0.3),
        constant_warm_up=warmed_up(constant(300, 30), 0.1),
        kd_warm_up=warmed_up(kd, 0.1)),
    reference='kd',
    seeds=[0, 1, 2],
    budgets=[0.01, 0.03, 0.1, 0.3, 1])
