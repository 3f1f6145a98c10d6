"""The loss of :mod:`distpro.pathways.forms` for mmrazor."""
from mmrazor.registry import MODELS

from distpro.pathways import FormLoss

MODELS.register_module(module=FormLoss)
