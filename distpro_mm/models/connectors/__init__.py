from .transforms import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform, Transform

__all__ = [
    'AttentionTransform', 'ConvAttentionTransform', 'DeepAttentionTransform', 'PointwiseTransform', 'Transform'
]
