from .distpro import DistPro

__all__ = ['DistPro']
