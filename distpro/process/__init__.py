"""The process: the pathways' weights over a training, and its transfer to other networks."""
from ..errors import ProcessError
from .ablation import ABLATIONS, ablation
from .process import DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = ['ABLATIONS', 'TRANSFERS', 'DistillationProcess', 'ProcessError', 'ablation', 'interpolate', 'map_process']
