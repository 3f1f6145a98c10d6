from .distpro_distiller import DistProDistiller
from .l2t_distiller import L2TDistiller
from .pair_distiller import PairDistiller
from .recorder_distiller import RecorderDistiller
from .review_kd_distiller import ReviewKDDistiller
from .tap_distiller import TapDistiller

__all__ = ['DistProDistiller', 'L2TDistiller', 'PairDistiller', 'RecorderDistiller', 'ReviewKDDistiller', 'TapDistiller']
