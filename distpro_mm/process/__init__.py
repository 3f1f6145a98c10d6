"""HOW MUCH each pathway counts, and when."""
from ..errors import ProcessError
from .process import FORMS, DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process
from .weighting import OFF, Weighting

__all__ = ['FORMS', 'OFF', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'Weighting', 'interpolate', 'map_process']
