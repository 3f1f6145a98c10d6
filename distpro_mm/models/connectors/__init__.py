from .abf_connector import ABFConnector
from .margin_ofd_teacher_connector import MarginOFDTeacherConnector
from .projections import IdentityTransform, LinearTransform, MLPTransform
from .transforms import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform, Transform

__all__ = [
    'ABFConnector', 'AttentionTransform', 'ConvAttentionTransform', 'DeepAttentionTransform', 'IdentityTransform',
    'LinearTransform', 'MLPTransform', 'MarginOFDTeacherConnector', 'PointwiseTransform', 'Transform'
]
