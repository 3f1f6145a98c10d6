"""Import a library that is not a requirement, and name what to install without it."""
import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError, first_line
from .torchvision_operators import patch_torchvision

ON_TORCHVISION = ('torchvision', 'timm', 'transformers')  # libraries that import it


def import_library(name: str, install: str, source: str) -> Any:
    """Import a library.

    Args:
        name (str): The module.
        install (str): The pip command that installs it.
        source (str): The argument that needs it, for errors.

    Returns:
        module: The module.

    Raises:
        ArgumentError: If it is not installed, or its import fails.
    """
    if name.partition('.')[0] in ON_TORCHVISION:
        patch_torchvision()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        root = name.partition('.')[0]
        if getattr(error, 'name', None) in (name, root):
            raise ArgumentError(f'{source} needs {root}, which is not installed: {install}') from error
        raise ArgumentError(f'{source}: {root} cannot be imported ({first_line(error)}): {install}') from error
    except RuntimeError as error:  # torchvision beside another torch
        raise ArgumentError(f'{source}: {name} cannot be imported ({first_line(error)}): install the version that fits '
                            f'torch, {install}') from error


def unknown(source: str, name: str, names: Iterable[str], what: str) -> ArgumentError:
    """The error for a name that a source does not have.

    Args:
        source (str): The argument, for the message.
        name (str): The name.
        names (Iterable[str]): The known names.
        what (str): Who knows them, e.g. 'timm 1.0.31'.

    Returns:
        ArgumentError: The error, with the nearest known names.
    """
    known = list(names)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f'; nearest: {", ".join(nearest)}' if nearest else ''
    return ArgumentError(f"{source}: {what} has no network '{name}' among its {len(known)}{hint}")
