# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
# The logits are a pathway too, and the total weight is free. The weight of 1 for all equal (of 0.3, 1 and 3) was chosen on
# training images that are not used here. 'published' is DistPro as its release has it: features alone, biased softmax.
_base_ = '../_base_/benchmarks/distpro.py'
benchmark = dict(
    pair='resnet20_resnet8-half_digits',
    teacher='../teachers/resnet20_digits.py',
    stages=dict(
        search=_base_.searches.search,
        published_search=dict(config='../distpro/published_search.py', seeds=[0])),
    methods=dict(
        student='../baselines/student.py',
        kd='../baselines/kd.py',
        equal=dict(config='../baselines/equal.py', options={**_base_.pathways, _base_.kd_weight: 1.0}),
        published=_base_.published,
        distpro=_base_.distpro),
    reference='kd',
    seeds=[0, 1, 2, 3, 4])
