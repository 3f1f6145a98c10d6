"""Strategies that propose processes (ask) and learn from their held-out losses (tell)."""
from .cma_es import CMAESSearcher
from .random_search import RandomSearcher
from .rprop import RpropSearcher
from .searcher import SEARCHERS, Searcher, register_searcher
from .trial import Trial

__all__ = ['SEARCHERS', 'CMAESSearcher', 'RandomSearcher', 'RpropSearcher', 'Searcher', 'Trial', 'register_searcher']
