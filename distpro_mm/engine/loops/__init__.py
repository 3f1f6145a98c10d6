from .distpro_search_loop import DistProSearchLoop, SearchError

__all__ = ['DistProSearchLoop', 'SearchError']
