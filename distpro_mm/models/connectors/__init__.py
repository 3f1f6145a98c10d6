from .abf_connector import ABFConnector
from .margin_ofd_teacher_connector import MarginOFDTeacherConnector
from .transforms import (
    AttentionTransform,
    ConvAttentionTransform,
    DeepAttentionTransform,
    IdentityTransform,
    LinearTransform,
    MLPTransform,
    PointwiseTransform,
    connector,
)

__all__ = [
    'ABFConnector', 'AttentionTransform', 'ConvAttentionTransform', 'DeepAttentionTransform', 'IdentityTransform',
    'LinearTransform', 'MLPTransform', 'MarginOFDTeacherConnector', 'PointwiseTransform', 'connector'
]
