"""DistPro: learns how to distil a student network from a teacher. Depends on torch and numpy only."""
from .distillation import Distillation, DistillationOutput
from .errors import ArgumentError, ProcessError, SearchError
from .networks import ModelInput, build_network, convert_input, model_input
from .plain_search import search
from .process import DistillationProcess, map_process
from .weighting import Weighting, register_weighting

__all__ = [
    'ArgumentError', 'Distillation', 'DistillationOutput', 'DistillationProcess', 'ModelInput', 'ProcessError',
    'SearchError', 'Weighting', 'build_network', 'convert_input', 'map_process', 'model_input', 'register_weighting',
    'search'
]
