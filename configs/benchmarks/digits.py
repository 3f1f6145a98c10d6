# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
benchmark = dict(
    pair='resnet20_resnet8-half_digits',
    teacher='../teachers/resnet20_digits.py',
    search='../distpro/search.py',
    methods=dict(
        student='../baselines/student.py',
        kd='../baselines/kd.py',
        equal='../baselines/equal.py',
        distpro='../distpro/distill.py'),
    reference='equal',
    seeds=[0, 1, 2, 3, 4])
