"""What is trained: the algorithm, the distiller, its transforms and losses, and the CIFAR networks."""
from .algorithms import DistPro
from .backbones import CIFARResNet
from .connectors import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform
from .distillers import DistProDistiller
from .losses import HCLLoss

__all__ = [
    'AttentionTransform', 'CIFARResNet', 'ConvAttentionTransform', 'DeepAttentionTransform', 'DistPro',
    'DistProDistiller', 'HCLLoss', 'PointwiseTransform'
]
