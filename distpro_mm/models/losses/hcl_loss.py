"""Register the HCL loss of :mod:`distpro.pathways` in mmrazor's registry."""
from mmrazor.registry import MODELS

from distpro.pathways import HCLLoss

MODELS.register_module(module=HCLLoss)
