# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
benchmark = dict(
    teacher='../teachers/resnet20_digits.py',
    stages=dict(search=dict(config='../distpro/search_resnet20_resnet8-half_digits.py', seeds=[0])),
    methods=dict(
        student='../baselines/student_resnet8-half_digits.py',
        kd='../baselines/kd_resnet20_resnet8-half_digits.py',
        equal='../baselines/equal_resnet20_resnet8-half_digits.py',
        distpro=dict(config='../distpro/distill_resnet20_resnet8-half_digits.py', after='search')),
    reference='equal',
    seeds=[0, 1, 2, 3, 4])
