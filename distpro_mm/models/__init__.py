"""What is trained: the algorithm, the distiller, its transforms and losses, and the networks."""
from .algorithms import DistPro
from .backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARResNet,
    CIFARShuffleNetV1,
    CIFARShuffleNetV2,
    CIFARWideResNet,
    MobileNetV1,
)
from .connectors import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform
from .data_preprocessors import BatchPreprocessor
from .distillers import DistProDistiller
from .losses import HCLLoss

__all__ = [
    'AttentionTransform', 'BatchPreprocessor', 'CIFARMobileNetV2', 'CIFARResNet', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2',
    'CIFARVGG', 'CIFARWideResNet', 'ConvAttentionTransform', 'DeepAttentionTransform', 'DistPro', 'DistProDistiller',
    'HCLLoss', 'MobileNetV1', 'PointwiseTransform'
]
