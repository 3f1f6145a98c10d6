"""DistPro: learns how to distil a student network from a teacher. Depends on torch and numpy only."""
from .distillation import Distillation, DistillationOutput
from .errors import ArgumentError, ProcessError, SearchError
from .plain_search import search
from .process import DistillationProcess, map_process
from .weighting import Weighting, register_weighting

__all__ = [
    'ArgumentError', 'Distillation', 'DistillationOutput', 'DistillationProcess', 'ProcessError', 'SearchError', 'Weighting',
    'map_process', 'register_weighting', 'search'
]
