"""Access to the model and the pathways that a runner trains."""

from mmengine.model import is_model_wrapper
from torch import nn

from distpro.pathways import PathwayGrid

from ..models import DistProDistiller


def unwrap(model: nn.Module) -> nn.Module:
    """The model without mmengine's wrapper for distributed training."""
    return model.module if is_model_wrapper(model) else model


def grid_of(model: nn.Module) -> PathwayGrid | None:
    """The grid of pathways of a DistPro model, wrapped or not; None for other models."""
    distiller = getattr(unwrap(model), 'distiller', None)
    return distiller.grid if isinstance(distiller, DistProDistiller) else None
