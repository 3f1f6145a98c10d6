"""How much each pathway counts, and when."""
from ..errors import ProcessError
from .process import FORMS, DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = ['FORMS', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'interpolate', 'map_process']
