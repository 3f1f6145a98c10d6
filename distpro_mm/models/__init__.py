"""What is trained: the algorithms, their distillers with transforms, connectors and losses, and the CIFAR networks."""
from .algorithms import DistPro, TapDistill
from .backbones import CIFARResNet
from .connectors import (
                         ABFConnector,
                         AttentionTransform,
                         ConvAttentionTransform,
                         DeepAttentionTransform,
                         MarginOFDTeacherConnector,
                         PointwiseTransform,
)
from .distillers import DistProDistiller, PairDistiller, ReviewKDDistiller
from .losses import DecoupledKDLoss, HCLLoss, NORMLoss, ReconstructionLoss, SupervisedCRDLoss, WSLDLoss
from .necks import NORMNeck

__all__ = [
    'ABFConnector', 'AttentionTransform', 'CIFARResNet', 'ConvAttentionTransform', 'DecoupledKDLoss',
    'DeepAttentionTransform', 'DistPro', 'DistProDistiller', 'HCLLoss', 'MarginOFDTeacherConnector', 'NORMLoss', 'NORMNeck',
    'PairDistiller', 'PointwiseTransform', 'ReconstructionLoss', 'ReviewKDDistiller', 'SupervisedCRDLoss', 'TapDistill',
    'WSLDLoss'
]
