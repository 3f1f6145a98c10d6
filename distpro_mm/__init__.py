"""DistPro for OpenMMLab: learns how to distil a vision model, then distils it.

Importing this package makes mmrazor and its family importable on a current PyTorch (see :mod:`distpro_mm.compat`) and
registers everything that configs name.
"""
from . import compat

compat.apply()

from . import datasets, engine, models  # noqa: E402, F401

__version__ = '0.1.0'
