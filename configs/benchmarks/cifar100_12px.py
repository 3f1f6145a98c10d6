# The main rows of cifar100_small at 12 x 12 pixels: a test of the search's defaults, which were chosen at 16 x 16.
_base_ = '../_base_/benchmarks/distpro.py'
factors = [1 / 3, 1, 3, 10]
benchmark = dict(
    pair='resnet20_resnet8_cifar100-12px',
    teacher='../teachers/resnet20_cifar100-12px.py',
    stages=dict(search=_base_.searches.search),
    methods=dict(
        student=dict(config='../baselines/student.py', grid=_base_.rates),
        kd=dict(
            config='../baselines/kd.py',
            grid={'model.distiller.distill_losses.loss_kl.loss_weight': [0.9 * factor for factor in factors], **_base_.rates}),
        equal=dict(config='../baselines/equal.py', options=_base_.pathways, grid={_base_.kd_weight: factors, **_base_.rates}),
        reviewkd=dict(
            config='../baselines/reviewkd.py', grid={'model.distiller.loss.loss_weight': factors, **_base_.rates}),
        distpro=dict(_base_.distpro, grid=_base_.rates)),
    reference='equal',
    seeds=[0, 1, 2],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3))
