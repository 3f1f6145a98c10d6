# What comparisons share: DistPro with the logits among the pathways and a free total weight (and, by `pathways` alone, all of
# these at one constant weight), DistPro as published, the controls of a process, a random search of the same cost (of three
# rounds two are differentiated, for three times their own cost: nine trainings in all), and evolution, which needs more.
pathways = {
    'model.distiller.logits': [dict(type='KLDivergence', tau=4, name='kl')],
    'model.distiller.weighting.type': 'exponential',
    'model.distiller.weighting.scale': 1.0,
    'model.distiller.weighting.unit': 'loss'
}
kd_weight = 'model.distiller.weighting.kd_weight'
scaled = {'model.distiller.weighting.scale': 'num_pathways'}  # the release's
searches = dict(
    search=dict(config='../distpro/search.py', seeds=[0]),
    random_rounds=dict(
        config='../distpro/search.py', options={'train_cfg.searcher.type': 'RandomSearcher', 'train_cfg.rounds': 9}, seeds=[0]),
    evolution_rounds=dict(
        config='../distpro/search.py', options={'train_cfg.searcher.type': 'CMAESSearcher', 'train_cfg.rounds': 22}, seeds=[0]),
    published_search=dict(config='../distpro/published_search.py', options=scaled, seeds=[0]))
controls = {
    form: dict(like='distpro', options={'custom_hooks.0.form': form}, budgets=[1])
    for form in ('uniform', 'mean', 'together', 'random', 'last', 'shuffled')
}
first_round = dict(  # what a search begins with: train_cfg.feature_weight, and exp(train_cfg.initial_bump) at its inner knots
    config='../baselines/ramp.py', budgets=[1],
    options={**pathways, 'custom_hooks.0.process': dict(
        unit='variance', progress=[0, 1 / 3, 2 / 3, 1],
        weights=dict(features=[16, 321, 321, 16], logits=[1, 20.1, 20.1, 1]))})
published_uniform = dict(like='published', options={'custom_hooks.0.form': 'uniform'})
random_search = dict(config='../distpro/distill.py', after='random_rounds', budgets=[1])
evolution_search = dict(config='../distpro/distill.py', after='evolution_rounds', budgets=[1])
