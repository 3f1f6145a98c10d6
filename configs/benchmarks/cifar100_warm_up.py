# Ten epochs with a warm-up of the learning rate for every rival: weights, rate and warm-up are chosen by trainings of full length
# on four fifths of the images, evaluated on the rest. Otherwise the benchmark is cifar100_small. Run with --teacher-ckpt
# docs/results/cifar100_small/teacher.pth.
_base_ = '../_base_/benchmarks/distpro.py'
distiller = 'model.distiller'
kd_weight = f'{distiller}.distill_losses.loss_kl.loss_weight'
cosine = dict(type='CosineAnnealingLR', T_max=10, by_epoch=True, convert_to_iter_based=True)
third = {'param_scheduler': [dict(type='LinearLR', start_factor=0.05, begin=0, end=312, by_epoch=False), cosine]}
fast, faster = {'optim_wrapper.optimizer.lr': 0.3}, {'optim_wrapper.optimizer.lr': 1.0}  # the usual rate is 0.1


def constant(features, logits, **more):
    return {'custom_hooks.0.process.weights': dict(features=[features] * 2, logits=[logits] * 2), **more}


def hints(weight, kd, **more):
    return {f'{distiller}.loss.loss_weight': weight, kd_weight: kd, **more}


def simkd(weight, **more):
    return {f'{distiller}.weights': [weight], **more}


def with_warm_ups(key, weight):
    one, more = {f'{distiller}.{key}': weight}, {f'{distiller}.{key}': 3 * weight}
    return [one, {**one, **third}, {**more, **third}, {**one, **third, **fast}, {**more, **third, **fast}]


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    methods=dict(
        general=dict(
            config='../distpro/distill.py', options=_base_.general_process,
            grid=[{}, fast, {**third, **fast}, faster, {**third, **faster}]),
        constant=dict(config='../baselines/constant.py', grid=[
            constant(300, 10), constant(300, 10, **third), constant(300, 30, **third), constant(100, 10, **third, **fast)]),
        simkd=dict(config='../baselines/simkd.py', grid=[
            simkd(10), simkd(10, **third), simkd(30, **third), simkd(10, **third, **fast), simkd(30, **third, **fast),
            simkd(10, **third, **faster), simkd(100, **third, **fast)]),
        pursuhint=dict(config='../baselines/pursuhint.py', grid=[
            hints(33.0, 8.1), hints(33.0, 8.1, **third), hints(33.0, 8.1, **third, **fast), hints(33.0, 24.0, **third)]),
        reviewkd=dict(config='../baselines/reviewkd.py', grid=with_warm_ups('loss.loss_weight', 3.0)),
        dkd=dict(config='../baselines/dkd.py', grid=with_warm_ups('distill_losses.loss_dkd.beta', 8 / 3)),
        wkd_f=dict(config='../baselines/wkd_f.py', grid=with_warm_ups('loss.loss_weight', 0.08)),
        kd=dict(config='../baselines/kd.py', grid=[
            {kd_weight: 9.0}, {kd_weight: 9.0, **third}, {kd_weight: 30.0, **third}, {kd_weight: 9.0, **third, **fast}]),
        kd_schedule=dict(
            config='../baselines/kd_schedule.py',
            options={'custom_hooks.0.warm_up': 0.9, 'custom_hooks.0.decay': 0.0, 'custom_hooks.1.warm_up': 0.0}, grid=[
                {kd_weight: 30.0}, {kd_weight: 30.0, **third}, {kd_weight: 30.0, **fast}, {kd_weight: 30.0, **third, **fast},
                {kd_weight: 90.0, **third}])),
    reference='kd',
    seeds=[0, 1, 2],
    budgets=[1],
    tuning=dict(ratio=0.2, seeds=[100], budget=1.0))
