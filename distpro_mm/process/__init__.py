"""HOW MUCH each pathway counts, and when."""
from ..errors import ProcessError
from .process import FORMS, DistillationProcess, interpolate
from .weighting import Weighting

__all__ = ['FORMS', 'DistillationProcess', 'ProcessError', 'Weighting', 'interpolate']
