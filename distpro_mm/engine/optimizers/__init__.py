from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .distpro_optim_wrapper_constructor import DistProOptimWrapperConstructor

__all__ = ['BFloat16OptimWrapper', 'DistProOptimWrapperConstructor']
