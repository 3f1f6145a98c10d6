"""Networks of a repository with a ``hubconf.py``."""
import ast
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
        network = torch.hub.load(repository, entry, source=where, **given)
    except RuntimeError as error:
        if 'Cannot find callable' in str(error):
            names = _entries(repository) if where == 'local' else torch.hub.list(repository)
            raise unknown(source, entry, names, f"'{repository}'") from error
        raise
    except OSError as error:
        raise ArgumentError(f'{source}: the repository cannot be read ({first_line(error)})') from error
    if not isinstance(network, nn.Module):
        raise ArgumentError(f'{source} gives a {type(network).__name__}, not an nn.Module')
    return network, None


def _entries(folder: str) -> list[str]:
    """The functions of a folder's ``hubconf.py``, its own and those that it imports."""
    with open(os.path.join(folder, 'hubconf.py')) as file:
        statements = ast.parse(file.read()).body
    names = [alias.asname or alias.name for statement in statements if isinstance(statement, ast.ImportFrom)
             for alias in statement.names]
    names += [statement.name for statement in statements if isinstance(statement, (ast.FunctionDef, ast.ClassDef))]
    return [name for name in names if not name.startswith('_')]


def _is_repository(name: str) -> bool:
    parts = name.partition(':')[0].split('/')
    return len(parts) == 2 and all(part and not part.startswith('.') for part in parts)
