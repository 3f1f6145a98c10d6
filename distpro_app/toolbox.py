"""Calls the commands of distpro_mm, which is imported when one is used."""
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import typer

from distpro.errors import ArgumentError, first_line


def run_toolbox(act: Callable[[Any], None]) -> None:
    """Run a command of :mod:`distpro_mm.commands`; an error that the user can fix ends the command with exit code 1.

    Args:
        act (Callable): Is given the module with the commands.
    """
    commands = _imported('commands')
    code = _imported('engine.command_line').run(lambda: act(commands))
    if code:
        raise typer.Exit(code)


def read_config(path: str, options: Sequence[str] | None, pair: str | None) -> Any:
    """A config with settings KEY=VALUE, see :func:`distpro_mm.engine.config_file.load_config`."""
    given = _imported('engine.command_line').config_options(options or ())
    return _imported('engine.config_file').load_config(path, given, pair)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(f'distpro_mm.{name}')
    except ImportError as error:
        raise ArgumentError(f"this command needs the packages of OpenMMLab ({first_line(error)}): "
                            "pip install 'distpro_mm[mm]'") from error
