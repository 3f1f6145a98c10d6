"""Build a network from its name."""
import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from ..checks import FLAG, check_choice, nearest
from ..errors import ArgumentError
from .weights import Report, load_weights

EXAMPLE = "'timm:resnet18'"
# By prefix: the function that builds a network, or the module of this package that has it. A module is imported when its
# prefix is used, and imports the library then.
SOURCES: dict[str, str | Callable] = dict(
    timm='from_timm', torchvision='from_torchvision', torchhub='from_torch_hub', hf='from_hugging_face',
    module='from_module')
ELSEWHERE = dict(mmpretrain='import distpro_mm first')


def register_source(prefix: str, build: Callable) -> None:
    """Add a source of networks.

    Args:
        prefix (str): What names of this source start with, before ':'.
        build (Callable): ``build(name, source, pretrained, num_classes, options)`` gives the network and its
            :class:`ModelInput`, or None in place of it. ``source`` is the argument, for errors.
    """
    SOURCES[prefix] = build


def build_network(name: str | dict | nn.Module, *, pretrained: bool = False, num_classes: int | None = None,
                  checkpoint: str | None = None, report: Report = print, **options: Any) -> nn.Module:
    """Build a teacher or a student from its name.

    Args:
        name (str, dict or nn.Module): 'timm:NAME', 'torchvision:NAME', 'torchhub:REPO:NAME', 'hf:NAME' (a folder, a name of
            the hub, or a kind of network such as 'vit'), 'module:PACKAGE.ATTRIBUTE' (a function of your own), or with
            ``distpro_mm`` 'mmpretrain:NAME'. A dict has ``name`` and other arguments of this function. A module is returned
            as it is.
        pretrained (bool): Load the weights that the library publishes, which it may download. Defaults to False.
        num_classes (int, optional): Number of classes; 0 for no classifier, where the library can do so. Defaults to None:
            the library's.
        checkpoint (str, optional): A file with all weights of the network, see :func:`load_weights`. With ``num_classes``,
            a classifier of other classes is left out. Defaults to None.
        report (Callable): Is given a line for what was done to the names of the weights. Defaults to ``print``.
        **options (Any): Arguments of the library's network.

    Returns:
        nn.Module: The network. With published weights, :func:`model_input` gives the images that they expect.

    Raises:
        ArgumentError: If the name is unknown, the library is missing, or the weights do not fit.

    Example:
        >>> teacher = distpro.build_network('timm:resnet50', pretrained=True)
        >>> student = distpro.build_network('torchvision:mobilenet_v2', num_classes=1000)
    """
    if isinstance(name, dict):
        if 'name' not in name:
            raise ArgumentError(f"{name!r} must be the dict of a network, with the key name, such as dict(name={EXAMPLE})")
        given = dict(pretrained=pretrained, num_classes=num_classes, checkpoint=checkpoint, report=report, **options)
        return build_network(**{**given, **name})
    check_choice('pretrained', pretrained, FLAG)
    if isinstance(name, nn.Module):
        if pretrained or num_classes is not None or checkpoint or options:
            raise ArgumentError('name is a module, which is built already: leave out the other arguments')
        return name
    prefix, rest = check_source(name)
    source = f'name={name!r}'
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0):
        raise ArgumentError(f'num_classes={num_classes!r} must be a whole number from 0')
    found = SOURCES[prefix]
    build = importlib.import_module(f'.{found}', __package__).build if isinstance(found, str) else found
    network, expected = build(rest, source, pretrained, num_classes, dict(options))
    network.model_input = expected
    if checkpoint is not None:
        load_weights(network, checkpoint, 'checkpoint', num_classes is not None, report)
    return network


def check_source(name: str) -> tuple[str, str]:
    """The source and the rest of a network's name; imports nothing.

    Args:
        name (str): SOURCE:NAME, as in :func:`build_network`.

    Raises:
        ArgumentError: If it is of another form, or the source is unknown. The message has the nearest source.
    """
    prefix, _, rest = name.partition(':') if isinstance(name, str) else ('', '', '')
    if prefix not in SOURCES or not rest:
        hint = f': {ELSEWHERE[prefix]}' if prefix in ELSEWHERE and prefix not in SOURCES else nearest(prefix, SOURCES)
        raise ArgumentError(f'name={name!r} must be SOURCE:NAME with one of the sources {", ".join(SOURCES)}, such as '
                            f'{EXAMPLE}, or an nn.Module{hint}')
    return prefix, rest
