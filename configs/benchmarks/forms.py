# Searches of the form of a loss against DistPro, on the pair and images of cifar100_small: by evolution (KD-Zero), by a tree
# (Auto-KD) and at random, each with twelve trials of 3 of 10 epochs, about three trainings. 'general' is the process that comes
# with the package, made without this pair. Run with --teacher-ckpt docs/results/cifar100_small/teacher.pth.
_base_ = ['../_base_/benchmarks/distpro.py', '../_base_/benchmarks/forms.py']
seeds = [0, 1, 2]
trials = 12
# The forms that evolution and the tree found, as transforms of DistPro with distances of their own, beside the usual one.
both = {'model.distiller.transforms': [
    dict(type='PointwiseTransform'),
    dict(type='PointwiseTransform', name='evolution', distance=dict(
        type='FormLoss', transformations=['pool_1', 'softmax_images', 'sigmoid'], distance='pearson')),
    dict(type='PointwiseTransform', name='tree', distance=dict(
        type='FormLoss', transformations=['pool_1'], distance='smooth_l1')),
]}


def searched(kind, **arguments):
    return dict(
        config='../baselines/form.py', grid=_base_.form_grid, searcher=dict(type=kind, trials=trials, **arguments))


benchmark = dict(
    pair='resnet20_resnet8_cifar100-small',
    teacher='../teachers/resnet20_cifar100-16px.py',
    stages=dict(
        search=_base_.searches.search,
        search_of_both=dict(_base_.searches.search, options={**_base_.from_constants, **both})),
    methods=dict(
        form_random=searched('EvolutionSearcher', population=trials, seed=2),  # one generation, which is drawn at random
        form_tree=searched('TreeSearcher'),
        form_evolution=searched('EvolutionSearcher', population=4, seed=1),
        distpro=_base_.distpro,
        distpro_of_forms=dict(
            config='../distpro/distill_searched.py',
            options={**_base_.as_it_is, **both, 'custom_hooks.0.process': 'stage://search_of_both/process'}),
        general=dict(config='../distpro/distill.py', options=_base_.general_process)),
    reference='general',
    seeds=seeds,
    budgets=[1],
    tuning=dict(ratio=0.2, seeds=[100], budget=0.3))
