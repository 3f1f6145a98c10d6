from .abf_connector import ABFConnector
from .embedding_connectors import EmbeddingConnector, OrthogonalConnector
from .margin_ofd_teacher_connector import MarginOFDTeacherConnector
from .transforms import (
    AttentionTransform,
    ConvAttentionTransform,
    CrossAttentionTransform,
    DeepAttentionTransform,
    IdentityTransform,
    LinearTransform,
    MLPTransform,
    PointwiseTransform,
    connector,
)

__all__ = [
    'ABFConnector', 'AttentionTransform', 'ConvAttentionTransform', 'CrossAttentionTransform', 'DeepAttentionTransform',
    'EmbeddingConnector', 'IdentityTransform', 'LinearTransform', 'MLPTransform', 'MarginOFDTeacherConnector',
    'OrthogonalConnector', 'PointwiseTransform', 'connector'
]
