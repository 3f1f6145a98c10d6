from .distpro_distiller import DistProDistiller
from .in_context_distiller import InContextDistiller
from .l2t_distiller import L2TDistiller
from .pair_distiller import PairDistiller
from .recorder_distiller import RecorderDistiller
from .review_kd_distiller import ReviewKDDistiller
from .scalekd_distiller import ScaleKDDistiller
from .tap_distiller import TapDistiller

__all__ = [
    'DistProDistiller', 'InContextDistiller', 'L2TDistiller', 'PairDistiller', 'RecorderDistiller', 'ReviewKDDistiller',
    'ScaleKDDistiller', 'TapDistiller'
]
