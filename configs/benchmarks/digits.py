# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
# The logits are a pathway too, and the total weight is free. The weight of 1 (of 0.3, 1 and 3) and alpha's rate were chosen on
# training images that are not used here. 'published' is DistPro as its release has it: features alone, biased softmax.
pathways = {
    'model.distiller.logits': [dict(type='KLDivergence', tau=4, name='kl')],
    'model.distiller.weighting.type': 'exponential',
    'model.distiller.weighting.scale': 1.0,
    'model.distiller.weighting.kd_weight': 1.0
}
alpha = {'optim_wrapper.alpha': dict(optimizer=dict(type='Adam', lr=0.02, betas=(0.5, 0.999)))}
benchmark = dict(
    pair='resnet20_resnet8-half_digits',
    teacher='../teachers/resnet20_digits.py',
    stages=dict(
        search=dict(config='../distpro/search.py', options={**pathways, **alpha}, seeds=[0]),
        published_search=dict(config='../distpro/search.py', seeds=[0])),
    methods=dict(
        student='../baselines/student.py',
        kd='../baselines/kd.py',
        equal=dict(config='../baselines/equal.py', options=pathways),
        published=dict(config='../distpro/distill.py', after='published_search'),
        distpro=dict(config='../distpro/distill.py', options=pathways, after='search')),
    reference='kd',
    seeds=[0, 1, 2, 3, 4])
