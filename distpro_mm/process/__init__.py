"""HOW MUCH each pathway counts, and when."""
from .process import FORMS, DistillationProcess, ProcessError, interpolate
from .weighting import Weighting

__all__ = ['FORMS', 'DistillationProcess', 'ProcessError', 'Weighting', 'interpolate']
