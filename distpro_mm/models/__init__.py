"""What is trained: the algorithms, their distillers with transforms, connectors and losses, and the CIFAR networks."""
from .algorithms import L2T, DistPro, SimKD, TapDistill
from .backbones import CIFARResNet
from .connectors import (
    ABFConnector,
    AttentionTransform,
    ConvAttentionTransform,
    DeepAttentionTransform,
    MarginOFDTeacherConnector,
    PointwiseTransform,
)
from .distillers import DistProDistiller, L2TDistiller, PairDistiller, ReviewKDDistiller
from .losses import (
    CCLoss,
    DecoupledKDLoss,
    HCLLoss,
    MultiLevelLogitLoss,
    NORMLoss,
    ReconstructionLoss,
    SPLoss,
    StandardizedKLDivergence,
    SupervisedCRDLoss,
    VIDLoss,
    WSLDLoss,
)
from .necks import NORMNeck, SimKDNeck

__all__ = [
    'ABFConnector', 'AttentionTransform', 'CCLoss', 'CIFARResNet', 'ConvAttentionTransform', 'DecoupledKDLoss',
    'DeepAttentionTransform', 'DistPro', 'DistProDistiller', 'HCLLoss', 'L2T', 'L2TDistiller', 'MarginOFDTeacherConnector',
    'MultiLevelLogitLoss', 'NORMLoss', 'NORMNeck', 'PairDistiller', 'PointwiseTransform', 'ReconstructionLoss',
    'ReviewKDDistiller', 'SPLoss', 'SimKD', 'SimKDNeck', 'StandardizedKLDivergence', 'SupervisedCRDLoss', 'TapDistill',
    'VIDLoss', 'WSLDLoss'
]
