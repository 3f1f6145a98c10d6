# Relational knowledge distillation (Park et al., CVPR 2019), all mmrazor's own: distances and angles between the pooled
# features of a batch. Weights 25 and 50, features not normalised: RepDistiller's. The pair sets the modules of the features.
rkd = dict(
    type='RecorderDistiller',
    distill_losses=dict(
        loss_distance=dict(type='DistanceWiseRKD', loss_weight=25.0, with_l2_norm=False),
        loss_angle=dict(type='AngleWiseRKD', loss_weight=50.0, with_l2_norm=False)),
    loss_forward_mappings=dict(
        loss_distance=dict(
            preds_S=dict(from_student=True, recorder='features', data_idx=0),
            preds_T=dict(from_student=False, recorder='features', data_idx=0)),
        loss_angle=dict(
            preds_S=dict(from_student=True, recorder='features', data_idx=0),
            preds_T=dict(from_student=False, recorder='features', data_idx=0))))
