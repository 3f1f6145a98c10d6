from .norm_neck import NORMNeck
from .simkd_neck import SimKDNeck

__all__ = ['NORMNeck', 'SimKDNeck']
