"""What is trained: the algorithms, their distillers with transforms, connectors and losses, and the CIFAR networks."""
from .algorithms import DistPro, TapDistill
from .backbones import CIFARResNet
from .connectors import (
                         AttentionTransform,
                         ConvAttentionTransform,
                         DeepAttentionTransform,
                         MarginOFDTeacherConnector,
                         PointwiseTransform,
)
from .distillers import DistProDistiller, PairDistiller
from .losses import DecoupledKDLoss, HCLLoss, ReconstructionLoss, SupervisedCRDLoss, WSLDLoss

__all__ = [
    'AttentionTransform', 'CIFARResNet', 'ConvAttentionTransform', 'DecoupledKDLoss', 'DeepAttentionTransform',
    'DistPro', 'DistProDistiller', 'HCLLoss', 'MarginOFDTeacherConnector', 'PairDistiller', 'PointwiseTransform',
    'ReconstructionLoss', 'SupervisedCRDLoss', 'TapDistill', 'WSLDLoss'
]
