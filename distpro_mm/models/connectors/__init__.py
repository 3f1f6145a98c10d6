from .margin_ofd_teacher_connector import MarginOFDTeacherConnector
from .transforms import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform, Transform

__all__ = [
    'AttentionTransform', 'ConvAttentionTransform', 'DeepAttentionTransform', 'MarginOFDTeacherConnector',
    'PointwiseTransform', 'Transform'
]
