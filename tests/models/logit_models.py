"""Small models with pathways between logits."""
import torch
from mmrazor.registry import MODELS
from toys import SHAPE, classifier

CLASSES = 10
KL, DKD = dict(type='KLDivergence', tau=4), dict(type='DecoupledKDLoss', tau=4, beta=2.0)


def build(student=4, teacher=6, classes=CLASSES, **distiller):
    torch.manual_seed(0)
    distiller = dict(dict(type='DistProDistiller', connections=[('layer3', 'layer3')], logits=[KL, DKD],
                          transforms=[dict(type='PointwiseTransform')]), **distiller)
    return MODELS.build(dict(_scope_='mmrazor', type='DistPro', architecture=classifier(student, classes),
                             teacher=classifier(teacher), input_shape=SHAPE, distiller=distiller))
