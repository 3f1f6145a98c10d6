from .hcl_loss import HCLLoss

__all__ = ['HCLLoss']
