from .cc_loss import CCLoss
from .curriculum_kd_loss import CurriculumKDLoss
from .decoupled_kd_loss import DecoupledKDLoss
from .dual_view_loss import DualViewLoss
from .form_loss import FormLoss
from .gaussian_wasserstein_loss import GaussianWassersteinLoss
from .hcl_loss import HCLLoss
from .in_context_loss import InContextLoss
from .multi_level_logit_loss import MultiLevelLogitLoss
from .norm_direction_loss import NormDirectionLoss
from .norm_loss import NORMLoss
from .reconstruction_loss import ReconstructionLoss
from .sp_loss import SPLoss
from .srd_loss import SRDLoss
from .standardized_dkd_loss import StandardizedDKDLoss
from .standardized_kl_divergence import StandardizedKLDivergence
from .supervised_crd_loss import SupervisedCRDLoss
from .vid_loss import VIDLoss
from .vkd_loss import VkDLoss
from .wasserstein_logit_loss import WassersteinLogitLoss
from .wsld_loss import WSLDLoss

__all__ = [
    'CCLoss', 'CurriculumKDLoss', 'DecoupledKDLoss', 'DualViewLoss', 'FormLoss', 'GaussianWassersteinLoss', 'HCLLoss',
    'InContextLoss', 'MultiLevelLogitLoss', 'NORMLoss', 'NormDirectionLoss', 'ReconstructionLoss', 'SPLoss', 'SRDLoss',
    'StandardizedDKDLoss', 'StandardizedKLDivergence', 'SupervisedCRDLoss', 'VIDLoss', 'VkDLoss', 'WSLDLoss',
    'WassersteinLogitLoss'
]
