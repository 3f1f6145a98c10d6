"""DistPro: learns how a student network is distilled from a teacher, in torch and numpy alone."""
from .errors import ArgumentError, ProcessError
from .process import DistillationProcess, map_process
from .weighting import Weighting

__all__ = ['ArgumentError', 'DistillationProcess', 'ProcessError', 'Weighting', 'map_process']
