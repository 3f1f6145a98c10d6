from .distpro import DistPro
from .l2t import L2T
from .simkd import SimKD
from .tap_distill import TapDistill

__all__ = ['DistPro', 'L2T', 'SimKD', 'TapDistill']
