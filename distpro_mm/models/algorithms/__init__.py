from .atsc import ATSC
from .distpro import DistPro
from .l2t import L2T
from .scalekd import ScaleKD
from .simkd import SimKD
from .tap_distill import TapDistill

__all__ = ['ATSC', 'DistPro', 'L2T', 'ScaleKD', 'SimKD', 'TapDistill']
