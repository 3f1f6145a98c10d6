from .distpro_distiller import DistProDistiller

__all__ = ['DistProDistiller']
