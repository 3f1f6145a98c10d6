# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
benchmark = dict(
    pair='resnet20_resnet8-half_digits',
    teacher='../teachers/resnet20_digits.py',
    stages=dict(search=dict(config='../distpro/search.py', seeds=[0])),
    methods=dict(
        student='../baselines/student.py',
        kd='../baselines/kd.py',
        equal='../baselines/equal.py',
        distpro=dict(config='../distpro/distill.py', after='search')),
    reference='equal',
    seeds=[0, 1, 2, 3, 4])
