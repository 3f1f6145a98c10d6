# Parts that benchmarks share: options of the pathways, searches, and methods that use their results.
# `pathways` are those of configs/distpro, of all layers: features and logits, with a free total weight.
pathways = {
    'model.distiller.transforms': [dict(type='PointwiseTransform')],
    'model.distiller.map_size': 4,
    'model.distiller.logits': [dict(type='KLDivergence', tau=4, name='kl')],
    'model.distiller.weighting.type': 'exponential',
    'model.distiller.weighting.scale': 1.0,
    'model.distiller.weighting.unit': 'loss'
}
kd_weight = 'model.distiller.weighting.kd_weight'
# Further keys of grids: the learning rate, and the weight of the cross-entropy of methods that lower it.
rates = {'optim_wrapper.optimizer.lr': dict(factors=[1 / 3, 1, 3])}
cross_entropy = {'model.architecture.head.loss.loss_weight': [0.1, 0.3, 1]}
# KD with hand-tuned schedules of its weight and that of the cross-entropy, as shares of the training.
schedule = {
    'custom_hooks.0.warm_up': dict(values=[0, 0.1, 0.3], limits=(0, 1)),
    'custom_hooks.0.decay': dict(values=[0, 0.25, 0.5], limits=(0, 1)),
    'custom_hooks.1.warm_up': dict(values=[0, 0.25, 0.5], limits=(0, 1))
}
scaled = {'model.distiller.weighting.scale': 'num_pathways'}  # the release's
# The searches of benchmarks begin from the default weights of all pathways, and not from 'general', which is an average of
# processes of some of these pairs; and their processes are replayed as they are.
all_pathways = {'model.distiller.connections': 'student_not_shallower'}
from_constants = {**all_pathways, 'train_cfg.initial': None, 'train_cfg.rounds': 3}
as_it_is = {**all_pathways, 'custom_hooks.0.fit_length': False}
searches = dict(
    search=dict(config='../distpro/search.py', options=from_constants, seeds=[0]),
    random_rounds=dict(  # cost: that of `search`, where two of three rounds are differentiated at three times their cost
        config='../distpro/search.py', seeds=[0],
        options={**from_constants, 'train_cfg.searcher.type': 'RandomSearcher', 'train_cfg.rounds': 9}),
    evolution_rounds=dict(  # more rounds than `search` costs, because evolution needs them
        config='../distpro/search.py', seeds=[0],
        options={**from_constants, 'train_cfg.searcher.type': 'CMAESSearcher', 'train_cfg.rounds': 22}),
    published_search=dict(config='../distpro/published_search.py', options=scaled, seeds=[0]))
# The process 'general', made without the process of the pair resnet20 to resnet8 at 16 px.
general_process = {
    'custom_hooks.0.process': 'configs/benchmarks/cifar100_frontier_process.json',
    'custom_hooks.0.transfer': 'by_depth'
}
distpro = dict(
    config='../distpro/distill_searched.py', options={**as_it_is, 'custom_hooks.0.process': 'stage://search/process'})
controls = {  # ablations of the process
    ablation: dict(ablation_of='distpro', options={'custom_hooks.0.ablation': ablation}, budgets=[1])
    for ablation in ('uniform', 'mean', 'mean_over_pathways', 'random', 'last', 'shuffled')
}
first_round = dict(  # a search's initial process: train_cfg.feature_weight, times exp(train_cfg.initial_bump) at interior knots
    config='../baselines/ramp.py', budgets=[1],
    options={**pathways, 'custom_hooks.0.process': dict(
        unit='variance', progress=[0, 1 / 3, 2 / 3, 1],
        weights=dict(features=[16, 321, 321, 16], logits=[1, 20.1, 20.1, 1]))})
published = dict(
    config='../distpro/published_distill.py', options={'custom_hooks.0.process': 'stage://published_search/process'})
published_uniform = dict(ablation_of='published', options={'custom_hooks.0.ablation': 'uniform'})
random_search = dict(
    config='../distpro/distill_searched.py', budgets=[1],
    options={**as_it_is, 'custom_hooks.0.process': 'stage://random_rounds/process'})
evolution_search = dict(
    config='../distpro/distill_searched.py', budgets=[1],
    options={**as_it_is, 'custom_hooks.0.process': 'stage://evolution_rounds/process'})
