from .distpro_distiller import DistProDistiller
from .pair_distiller import PairDistiller
from .tap_distiller import TapDistiller

__all__ = ['DistProDistiller', 'PairDistiller', 'TapDistiller']
