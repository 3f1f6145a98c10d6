from .distpro import DistPro, load_teacher

__all__ = ['DistPro', 'load_teacher']
