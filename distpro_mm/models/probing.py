"""Run an OpenMMLab model once on random images, without annotations."""
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from distpro.tracing import probe_input


def probe(model: nn.Module, shape: Sequence[int] | None, observe: Callable[[Callable[[], Any]], Any]) -> Any:
    """Observe a forward of an OpenMMLab model on :func:`probe_input`, without annotations.

    If the model needs annotations (two-stage detectors and DETR need the original image sizes), ``extract_feat`` is observed
    instead.

    Args:
        model (nn.Module): The model.
        shape (Sequence[int], optional): [C, H, W] of the images, see :func:`probe_input`.
        observe (Callable): Called with the forward, a function without arguments, and runs it once.

    Returns:
        Any: The result of ``observe``.
    """
    images = probe_input(model, shape)
    try:
        return observe(lambda: model(images, mode='tensor'))
    except Exception:
        if not hasattr(model, 'extract_feat'):
            raise
        return observe(lambda: model.extract_feat(images))
