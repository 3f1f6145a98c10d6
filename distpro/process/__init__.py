"""How much each pathway counts, and when."""
from ..errors import ProcessError
from .ablation import ABLATIONS, ablation
from .process import DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = ['ABLATIONS', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'ablation', 'interpolate', 'map_process']
