# Plain student, plain KD, all pathways equal and DistPro on scikit-learn's digits: `make demo`.
benchmark = dict(
    teacher='../teachers/resnet20_digits.py',
    search='../distpro/search_resnet20_resnet8-half_digits.py',
    methods=dict(
        student='../baselines/student_resnet8-half_digits.py',
        kd='../baselines/kd_resnet20_resnet8-half_digits.py',
        equal='../baselines/equal_resnet20_resnet8-half_digits.py',
        distpro='../distpro/distill_resnet20_resnet8-half_digits.py'),
    reference='equal',
    seeds=[0, 1, 2, 3, 4])
