from .distpro import DistPro
from .tap_distill import TapDistill

__all__ = ['DistPro', 'TapDistill']
