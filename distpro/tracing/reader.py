"""Read features during a forward."""
import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .tap import FeatureTap


class _EverythingRead(Exception):
    """Stops a forward after the last tap of a reader."""


class FeatureReader:
    """Reads the features of taps during forwards inside the context.

    Hooks exist only inside the context, so a model can be copied, pickled and run without them outside.

    Args:
        model (nn.Module): The model that the taps belong to.
        taps (Sequence[FeatureTap]): The taps to read.
        stop_early (bool): Stop the forward after the last tap. The forward then returns nothing. Defaults to
            False.

    Attributes:
        features (dict[str, Tensor]): The features by the names of the taps.
        without_gradients (list[FeatureTap]): Taps whose layers ran without gradients, whatever holds outside of them.

    Example:
        >>> with FeatureReader(model, taps) as reader:
        ...     model(images)
        >>> reader.features['layer2'].shape
    """

    def __init__(self, model: nn.Module, taps: Sequence[FeatureTap], stop_early: bool = False) -> None:
        self.model = model
        self.taps = tuple(taps)
        self.stop_early = stop_early
        self.features: dict[str, Tensor] = {}
        self.without_gradients: list[FeatureTap] = []

    def __enter__(self) -> 'FeatureReader':
        self.features, self.without_gradients = {}, []
        modules = dict(self.model.named_modules())
        hooks = {modules[name]: self._hook([tap for tap in self.taps if tap.module == name])
                 for name in dict.fromkeys(tap.module for tap in self.taps)}
        self._handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
        return self

    def _hook(self, taps: list[FeatureTap]) -> Callable:
        calls = 0

        def read(module, inputs, output):
            nonlocal calls
            for tap in taps:
                if tap.call == calls:
                    with _outside_of_checkpoints():
                        self.features[tap.name] = tap.read(inputs, output)
                    if not torch.is_grad_enabled():
                        self.without_gradients.append(tap)
            calls += 1
            if self.stop_early and len(self.features) == len(self.taps):
                raise _EverythingRead(self)

        return read

    def __exit__(self, kind, error, traceback) -> bool:
        for handle in self._handles:
            handle.remove()
        return kind is _EverythingRead and error.args == (self, )


def _outside_of_checkpoints() -> contextlib.AbstractContextManager:
    """Where activation checkpointing with ``use_reentrant=False`` counts nothing.

    It counts the tensors that are saved for the backward pass, and again when it runs a part once more, without hooks.
    Inside the context, tensors are saved as they usually are.
    """
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
        return contextlib.nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
