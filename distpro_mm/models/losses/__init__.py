from .decoupled_kd_loss import DecoupledKDLoss
from .hcl_loss import HCLLoss
from .norm_loss import NORMLoss
from .reconstruction_loss import ReconstructionLoss
from .supervised_crd_loss import SupervisedCRDLoss
from .wsld_loss import WSLDLoss

__all__ = ['DecoupledKDLoss', 'HCLLoss', 'NORMLoss', 'ReconstructionLoss', 'SupervisedCRDLoss', 'WSLDLoss']
