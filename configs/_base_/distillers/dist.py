# DIST (Huang et al., NeurIPS 2022), all mmrazor's own: Pearson correlations of the softened predictions, over the classes
# of an image and over the images of a class. Both weigh 2, temperature 4: the release's for CIFAR-100. The loss
# divides by the standard deviation of the predictions, which mmpretrain initializes close to 0, so that the first steps would
# be too large. The classifier is therefore initialized by PyTorch's default, like that of the release.
dist = dict(
    type='RecorderDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_dist=dict(type='DISTLoss', tau=4, loss_weight=2.0)),
    loss_forward_mappings=dict(
        loss_dist=dict(
            logits_S=dict(from_student=True, recorder='head'), logits_T=dict(from_student=False, recorder='head'))))
dist_head = dict(init_cfg=None)
