# Correlation congruence (Peng et al., ICCV 2019): correlations between the pooled last maps of a batch, with a Gaussian
# kernel of gamma 0.4 and order 2. Weight 100 is Knowledge-Distillation-Zoo's. RepDistiller's CC, with weight 0.02, is a
# different loss.
_cc_pool = dict(type='TorchNNConnector', module_name='AdaptiveAvgPool2d', module_args=dict(output_size=1))
cc = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=_cc_pool,
    teacher_connector=_cc_pool,
    loss=dict(type='CCLoss', gamma=0.4, order=2, loss_weight=100.0))
