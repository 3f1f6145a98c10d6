from .distpro import DistPro
from .simkd import SimKD
from .tap_distill import TapDistill

__all__ = ['DistPro', 'SimKD', 'TapDistill']
