"""In-place activations of networks whose features are read."""
import weakref
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import ArgumentError

# By activation that is switched off: for whom.
_off: weakref.WeakKeyDictionary[nn.Module, weakref.WeakSet] = weakref.WeakKeyDictionary()


def in_place_off(model: nn.Module, owner: Any = None) -> list[nn.Module]:
    """Disable in-place operations, so that later modules do not overwrite recorded features.

    Args:
        model (nn.Module): The network.
        owner (Any): Who calls :func:`in_place_on` later. Defaults to None: nobody.

    Returns:
        list[nn.Module]: The modules that work in place otherwise.
    """
    found = [module for module in model.modules() if getattr(module, 'inplace', False) is True or module in _off]
    for module in found:
        try:
            module.inplace = False
        except RuntimeError:
            raise ArgumentError(f'{type(model).__name__} is TorchScript, whose activations cannot be changed: pass the '
                                'network that it was made from') from None
        if owner is not None:
            _off.setdefault(module, weakref.WeakSet()).add(owner)
    return found


def in_place_on(modules: Sequence[nn.Module], owner: Any) -> None:
    """Enable in-place operations again, where no other owner that still exists needs them off.

    Args:
        modules (Sequence[nn.Module]): The result of :func:`in_place_off`.
        owner (Any): Who called it.
    """
    for module in modules:
        owners = _off.get(module, weakref.WeakSet())
        owners.discard(owner)
        if not owners:
            _off.pop(module, None)
            module.inplace = True
