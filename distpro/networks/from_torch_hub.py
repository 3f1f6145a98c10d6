"""Networks of a repository with a ``hubconf.py``."""
import os
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError, first_line
from .input import ModelInput
from .library import unknown


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build a network of torch.hub, ``REPO:NAME``; see :func:`distpro.networks.build_network`.

    ``REPO`` is a folder or a repository of GitHub, 'owner/name' or 'owner/name:branch'. Its code runs.
    """
    repository, _, entry = name.rpartition(':')
    if not repository or not entry:
        raise ArgumentError(f"{source} must be 'torchhub:REPO:NAME', such as 'torchhub:pytorch/vision:resnet18' or "
                            "'torchhub:./my_networks:small'")
    where = 'local' if os.path.isdir(repository) else 'github'
    if where == 'github' and not _is_repository(repository):
        raise ArgumentError(f"{source}: '{repository}' is neither a folder nor a repository 'owner/name' of GitHub")
    given = dict(options)
    if pretrained:
        given['pretrained'] = True
    if num_classes is not None:
        given['num_classes'] = num_classes
    try:
        names = torch.hub.list(repository, source=where)
    except (OSError, RuntimeError, ValueError) as error:
        raise ArgumentError(f'{source}: the repository cannot be read ({first_line(error)})') from error
    if entry not in names:
        raise unknown(source, entry, names, f"'{repository}'")
    network = torch.hub.load(repository, entry, source=where, **given)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f'{source} gives a {type(network).__name__}, not an nn.Module')
    return network, None


def _is_repository(name: str) -> bool:
    parts = name.partition(':')[0].split('/')
    return len(parts) == 2 and all(part and not part.startswith('.') for part in parts)
