"""Networks that a function in a module of the user returns."""
import importlib
import inspect
from typing import Any

from torch import nn

from ..errors import ArgumentError, first_line
from .input import ModelInput
from .library import unknown


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build a network by a function or class, ``PACKAGE.ATTRIBUTE``; see :func:`distpro.networks.build_network`.

    The package's code runs. The function gets ``options``, ``num_classes`` if it is given, and ``pretrained=True`` if it has
    this parameter; otherwise it loads its weights itself. An attribute ``model_input`` of the network, a
    :class:`ModelInput`, describes the images of its weights.
    """
    path, _, attribute = name.rpartition('.')
    if not path or not attribute:
        raise ArgumentError(f"{source} must be 'module:PACKAGE.ATTRIBUTE', such as 'module:my_networks.small'")
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise ArgumentError(f"{source}: '{path}' cannot be imported ({first_line(error)}): it must be in the present folder "
                            'or installed') from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise unknown(source, attribute, [known for known, value in vars(module).items() if callable(value)], f"'{path}'")
    given = dict(options)
    if num_classes is not None:
        given['num_classes'] = num_classes
    parameters = inspect.signature(function).parameters
    if pretrained and 'pretrained' in parameters:
        given['pretrained'] = True
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise ArgumentError(f'{source}: the function cannot be called with {", ".join(given) or "no arguments"} '
                            f'({first_line(error)})') from error
    network = function(**given)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f'{source} gives a {type(network).__name__}, not an nn.Module')
    return network, getattr(network, 'model_input', None)
