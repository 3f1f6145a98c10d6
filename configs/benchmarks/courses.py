# What part of a course over time helps: the general process and changes of it, constant weights, PURSUhInT and KD, with and
# without a warm-up of the learning rate. Everything is a trial of ten epochs on four fifths of the images of cifar100_small,
# evaluated on the rest. Run benchmarks/courses.py before it, and it with --teacher-ckpt docs/results/cifar100_small/teacher.pth.
distiller = 'model.distiller'
kd_weight = f'{distiller}.distill_losses.loss_kl.loss_weight'
cosine = dict(type='CosineAnnealingLR', T_max=10, by_epoch=True, convert_to_iter_based=True)


def warmed(**warm_up):
    return {'param_scheduler': [dict(type='LinearLR', start_factor=0.05, begin=0, by_epoch=False, **warm_up), cosine]}


def course(name, **more):
    return {'custom_hooks.0.process': f'work_dirs/courses/{name}.json', **more}


def constant(features, logits, **more):
    return {'custom_hooks.0.process.weights': dict(features=[features] * 2, logits=[logits] * 2), **more}


third, tenth = warmed(end=312), warmed(end=94)
hints = {f'{distiller}.loss.loss_weight': 33.0, kd_weight: 8.1}
benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    methods=dict(
        course=dict(config='../distpro/distill_searched.py', grid=[
            course('general'), course('general', **third), course('general', **tenth), course('features_of_one_weight'),
            course('features_at_their_mean'), course('features_highest_first'), course('logits_at_their_mean'),
            course('logits_highest_first'), course('general', **{'custom_hooks.0.ablation': 'mean'})]),
        constant=dict(config='../baselines/constant.py', grid=[
            constant(300, 10), constant(300, 10, **third), constant(1000, 30, **third)]),
        pursuhint=dict(config='../baselines/pursuhint.py', grid=[hints, {**hints, **third}]),
        kd=dict(config='../baselines/kd.py', grid=[{kd_weight: 9.0}, {kd_weight: 9.0, **third}, {kd_weight: 30.0, **third}])),
    reference='course',
    seeds=[0],
    budgets=[0.1],  # only the trials matter
    tuning=dict(ratio=0.2, seeds=[100], budget=1.0))
