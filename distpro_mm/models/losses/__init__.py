from .cc_loss import CCLoss
from .decoupled_kd_loss import DecoupledKDLoss
from .hcl_loss import HCLLoss
from .multi_level_logit_loss import MultiLevelLogitLoss
from .norm_loss import NORMLoss
from .reconstruction_loss import ReconstructionLoss
from .sp_loss import SPLoss
from .standardized_kl_divergence import StandardizedKLDivergence
from .supervised_crd_loss import SupervisedCRDLoss
from .vid_loss import VIDLoss
from .wsld_loss import WSLDLoss

__all__ = [
    'CCLoss', 'DecoupledKDLoss', 'HCLLoss', 'MultiLevelLogitLoss', 'NORMLoss', 'ReconstructionLoss', 'SPLoss',
    'StandardizedKLDivergence', 'SupervisedCRDLoss', 'VIDLoss', 'WSLDLoss'
]
