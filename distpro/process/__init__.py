"""The process: the pathways' weights over a training, its transfer to other networks, and the library of processes."""
from ..errors import ProcessError
from .ablation import ABLATIONS, ablation
from .average import average_processes
from .length import fit_length, is_of_short_rounds
from .level_control import LevelControl
from .library import ProcessLike, fit_process, library, load_process
from .process import DistillationProcess, interpolate
from .transfer import TRANSFERS, map_process

__all__ = [
    'ABLATIONS', 'TRANSFERS', 'DistillationProcess', 'LevelControl', 'ProcessError', 'ProcessLike', 'ablation',
    'average_processes', 'fit_length', 'fit_process', 'interpolate', 'is_of_short_rounds', 'library', 'load_process',
    'map_process'
]
