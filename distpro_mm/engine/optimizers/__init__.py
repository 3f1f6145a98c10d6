from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .distpro_optim_wrapper_constructor import DistProOptimWrapperConstructor
from .l2t_optim_wrapper_constructor import L2TOptimWrapperConstructor

__all__ = ['BFloat16OptimWrapper', 'DistProOptimWrapperConstructor', 'L2TOptimWrapperConstructor']
