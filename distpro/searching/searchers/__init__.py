"""Strategies that propose processes (ask) and learn from their held-out losses (tell)."""
from .ask_tell import AskTell
from .cma_es import CMAESSearcher
from .confirmation import BETTER
from .evolution import EvolutionSearcher
from .grid import GridSearcher
from .random_search import RandomSearcher
from .rprop import RpropSearcher
from .searcher import SEARCHERS, Searcher, register_searcher
from .strategy import strategy_of
from .tree_search import TreeSearcher
from .trial import Candidate, SettingsTrial, Trial

__all__ = [
    'BETTER', 'SEARCHERS', 'AskTell', 'CMAESSearcher', 'Candidate', 'EvolutionSearcher', 'GridSearcher', 'RandomSearcher',
    'RpropSearcher', 'Searcher', 'SettingsTrial', 'TreeSearcher', 'Trial', 'register_searcher', 'strategy_of'
]
