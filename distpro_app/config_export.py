"""Export of the student of a config: a plain model of its toolbox, torch.export and ONNX."""
import os
from collections.abc import Sequence
from typing import Any

import torch

from distpro.networks import ModelInput

from .deploy import Description, write_formats
from .settings import FORMATS

TOOLBOX = 'mm'  # the format of a plain model of the config's toolbox
CONFIG_FORMATS = (TOOLBOX, *FORMATS)


def export_config(toolbox: Any, cfg: Any, checkpoint: str, formats: Sequence[str], out: str) -> None:
    """Export the student of a config, and print the paths.

    Args:
        toolbox (module): ``distpro_mm.commands``.
        cfg (Config): The config of the training.
        checkpoint (str): Its checkpoint.
        formats (Sequence[str]): Some of 'mm', 'pt2' and 'onnx'. The last two are compared with torch, and are for
            classifiers.
        out (str): The folder to write to.

    Raises:
        ArgumentError: If the checkpoint does not fit, or a format cannot be written.
    """
    exported = [name for name in formats if name != TOOLBOX]
    student = toolbox.deployable_student(cfg, checkpoint) if exported else None  # errors come before files
    if TOOLBOX in formats:
        toolbox.export(cfg, checkpoint, out)
    if student is None:
        return
    preparation = dict(student.preparation, shape=['batch', *student.shape])
    description = Description(student.name, student.outputs, student.classes,
                              ModelInput(student.mean, student.std, student.shape[1:]), preparation)
    examples = torch.randn(3, *student.shape, generator=torch.Generator().manual_seed(0))
    os.makedirs(out, exist_ok=True)
    for name, path in write_formats(student.network, description, examples, exported, out).items():
        print(f'{name}: {path}')
