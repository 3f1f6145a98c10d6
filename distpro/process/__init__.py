"""The process: the pathways' weights over a training, and its transfer to other networks."""
from ..errors import ProcessError
from .process import ABLATIONS, DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = ['ABLATIONS', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'interpolate', 'map_process']
