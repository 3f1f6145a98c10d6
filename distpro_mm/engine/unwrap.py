"""Access to the model, the pathways and the optimisers of a runner."""
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
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


def wrappers_of(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, OptimWrapper]:
    """The wrapper of each optimiser by name; a single one has the name ''."""
    return dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {'': optim_wrapper}
