from .distpro_distiller import DistProDistiller
from .pair_distiller import PairDistiller
from .review_kd_distiller import ReviewKDDistiller
from .tap_distiller import TapDistiller

__all__ = ['DistProDistiller', 'PairDistiller', 'ReviewKDDistiller', 'TapDistiller']
