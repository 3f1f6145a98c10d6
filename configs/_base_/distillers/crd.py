# Contrastive representation distillation (Tian et al., ICLR 2020): embeddings of the pooled last maps in 128 dimensions,
# negatives of other classes, temperature 0.07, weight 0.8, as in the release (RepDistiller). The pair sets the number of
# training images and of negatives.
_crd_pool = dict(type='TorchNNConnector', module_name='AdaptiveAvgPool2d', module_args=dict(output_size=1))
crd = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    student_connector=[_crd_pool, dict(type='CRDConnector', dim_in='student_channels', dim_out=128)],
    teacher_connector=[_crd_pool, dict(type='CRDConnector', dim_in='teacher_channels', dim_out=128)],
    loss=dict(type='SupervisedCRDLoss', temperature=0.07, loss_weight=0.8))
