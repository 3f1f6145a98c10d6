"""How a process is learned: derivatives of the held-out loss, strategies, and the search in rounds."""
from .first_process import REFERENCES, build_searcher, round_epochs
from .footprint import Footprint
from .hypergradient import METHODS, Hypergradient
from .round import Round, Training, images_of_a_share
from .round_search import RoundSearch
from .search_watch import RoundWatch, StepWatch
from .searchers import (
    SEARCHERS,
    AskTell,
    CMAESSearcher,
    EvolutionSearcher,
    GridSearcher,
    RandomSearcher,
    RpropSearcher,
    Searcher,
    SettingsTrial,
    TreeSearcher,
    Trial,
    register_searcher,
)
from .second_derivative import twice_differentiable
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = [
    'METHODS', 'REFERENCES', 'SEARCHERS', 'AskTell', 'CMAESSearcher', 'EvolutionSearcher', 'Footprint', 'GridSearcher',
    'Hypergradient', 'RandomSearcher', 'Round', 'RoundSearch', 'RoundWatch', 'RpropSearcher', 'Searcher',
    'SettingsTrial', 'Step', 'StepWatch', 'Training', 'Trajectory', 'TreeSearcher', 'Trial', 'build_searcher',
    'images_of_a_share', 'register_searcher', 'round_epochs', 'twice_differentiable', 'unrolled'
]
