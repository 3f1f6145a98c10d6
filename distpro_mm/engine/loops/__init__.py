from .distpro_search_loop import DistProSearchLoop

__all__ = ['DistProSearchLoop']
