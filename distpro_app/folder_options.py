"""Options of ``distpro distill``, made from the settings, so that each is described in one place."""
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from . import settings as choices
from .settings import FolderSettings, formats_of, read_settings

FORMATS_HELP = 'Exported files beside the weights: pt2, onnx, "pt2,onnx" or none.'
CHOICES = dict(method=choices.METHODS, teacher_weights=choices.WEIGHTS, teacher_head=choices.HEADS,
               student_weights=choices.WEIGHTS, optimizer=choices.OPTIMIZERS, device=choices.DEVICES)


def with_options(command: Callable) -> Callable:
    """Give a command an option for each field of :class:`FolderSettings`, with its text, and ``settings`` and ``resume``.

    Args:
        command (Callable): Takes the values by name: None for an option that is not given.

    Returns:
        Callable: The command, with a signature that typer reads.
    """
    # The cleaned docstring: Python removes its indentation from 3.13 on.
    described = (inspect.getdoc(FolderSettings) or '').partition('Args:\n')[2].partition('\n\nRaises:')[0]
    texts = dict(re.findall(r'^ {4}(\w+) \([^)]*\): (.*?)(?=^ {4}\w|\Z)', described, re.DOTALL | re.MULTILINE))
    types = typing.get_type_hints(FolderSettings)
    found: list[tuple[str, Any, Any]] = [
        ('settings', str | None, typer.Option(metavar='FILE', help='A file of settings, such as settings.json '
                                              'of a run; other options override it.')),
        ('resume', bool, typer.Option('--resume', help='Continue the run in --out after its last epoch; start it if '
                                       'there is none.'))]
    for field in dataclasses.fields(FolderSettings):
        text = re.sub(r'``|:func:|Defaults to None[.:]\s*', '', texts[field.name]).replace('Defaults to', 'Default:')
        text = re.sub(r'\s+', ' ', text).replace('`', '').strip()
        flags, kind = [f'--{field.name.replace("_", "-")}'], types[field.name]
        if kind is bool:
            flags = [f'{flags[0]}/--no-{flags[0][2:]}']
        elif field.name in CHOICES:
            kind = Literal[CHOICES[field.name]]
        elif field.name == 'teacher':
            kind = list[str]
        elif field.name == 'formats':
            kind, text = str, f'{FORMATS_HELP} Default: both.'
        found.append((field.name, kind | None, typer.Option(*flags, show_default=False, help=text)))
    signature = inspect.Signature([inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False if name == 'resume' else None,
        annotation=Annotated[kind, option]) for name, kind, option in found])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


def settings_of(given: dict[str, Any], file: str | None) -> FolderSettings:
    """The settings of a file and of options, which override it.

    Args:
        given (dict[str, Any]): Options by name; None if an option is not given.
        file (str, optional): A file of :meth:`FolderSettings.save`.

    Raises:
        ArgumentError: If the file cannot be read, or a setting is wrong.
        typer.BadParameter: If a setting without a default is missing.
    """
    settings = read_settings(file) if file is not None else {}
    settings |= {name: formats_of(value) if name == 'formats' else value
                 for name, value in given.items() if value is not None and value != []}
    for name in ('data', 'teacher', 'student'):
        if name not in settings:
            raise typer.BadParameter(f'give --{name}, or --settings with a file that has it', param_hint=f'--{name}')
    return FolderSettings(**settings)
