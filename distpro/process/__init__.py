"""How much each pathway counts, and when."""
from ..errors import ProcessError
from .process import ABLATIONS, DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = ['ABLATIONS', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'interpolate', 'map_process']
