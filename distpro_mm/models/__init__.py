"""Algorithms, distillers, connectors, losses, necks and backbones."""
from . import mmpretrain_source  # noqa: F401  registers its networks
from .algorithms import ATSC, L2T, DistPro, ScaleKD, SimKD, TapDistill
from .backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARPyramidNet,
    CIFARResNet,
    CIFARShuffleNetV1,
    CIFARShuffleNetV2,
    CIFARWideResNet,
    MobileNetV1,
)
from .classifiers import ModuleClassifier, NamedClassifier
from .connectors import (
    ABFConnector,
    AttentionTransform,
    ConvAttentionTransform,
    CrossAttentionTransform,
    DeepAttentionTransform,
    EmbeddingConnector,
    IdentityTransform,
    LinearTransform,
    MarginOFDTeacherConnector,
    MLPTransform,
    OrthogonalConnector,
    PointwiseTransform,
)
from .data_preprocessors import BatchPreprocessor
from .distillers import (
    DistProDistiller,
    InContextDistiller,
    L2TDistiller,
    PairDistiller,
    RecorderDistiller,
    ReviewKDDistiller,
    ScaleKDDistiller,
)
from .losses import (
    CCLoss,
    CurriculumKDLoss,
    DecoupledKDLoss,
    DualViewLoss,
    GaussianWassersteinLoss,
    HCLLoss,
    InContextLoss,
    MultiLevelLogitLoss,
    NormDirectionLoss,
    NORMLoss,
    ReconstructionLoss,
    SPLoss,
    SRDLoss,
    StandardizedDKDLoss,
    StandardizedKLDivergence,
    SupervisedCRDLoss,
    VIDLoss,
    VkDLoss,
    WassersteinLogitLoss,
    WSLDLoss,
)
from .necks import NORMNeck, SimKDNeck

__all__ = [
    'ABFConnector', 'ATSC', 'AttentionTransform', 'BatchPreprocessor', 'CCLoss', 'CIFARMobileNetV2', 'CIFARPyramidNet',
    'CIFARResNet', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2', 'CIFARVGG', 'CIFARWideResNet', 'ConvAttentionTransform',
    'CrossAttentionTransform', 'CurriculumKDLoss', 'DecoupledKDLoss', 'DeepAttentionTransform', 'DistPro',
    'DistProDistiller', 'DualViewLoss', 'EmbeddingConnector', 'GaussianWassersteinLoss', 'HCLLoss', 'IdentityTransform',
    'InContextDistiller', 'InContextLoss', 'L2T', 'L2TDistiller', 'LinearTransform', 'MLPTransform',
    'MarginOFDTeacherConnector', 'MobileNetV1', 'ModuleClassifier', 'MultiLevelLogitLoss', 'NORMLoss', 'NORMNeck',
    'NamedClassifier', 'NormDirectionLoss', 'OrthogonalConnector', 'PairDistiller', 'PointwiseTransform',
    'ReconstructionLoss', 'RecorderDistiller', 'ReviewKDDistiller', 'SPLoss', 'SRDLoss', 'ScaleKD', 'ScaleKDDistiller',
    'SimKD', 'SimKDNeck', 'StandardizedDKDLoss', 'StandardizedKLDivergence', 'SupervisedCRDLoss', 'TapDistill', 'VIDLoss',
    'VkDLoss', 'WSLDLoss', 'WassersteinLogitLoss'
]
