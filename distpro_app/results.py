"""What a run leaves behind: the summary and the exported student."""
import importlib.util
import json
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distpro.errors import ArgumentError
from distpro.files import write_json
from distpro.networks import ModelInput, build_network, load_weights

from .deploy import INSTALL, Description, deploy
from .evaluation import latency, size
from .networks import Report, count_outputs, remove_empty_classifier, side_of
from .settings import FORMATS

SUMMARY = 'summary.json'
EXAMPLES = 3  # images with which exported files are compared
ROWS = (('accuracy', 'held-out images right', lambda value: f'{100 * value:.1f} %'),
        ('parameters', 'parameters', lambda value: f'{value:,}'),
        ('megabytes', 'size in MB', lambda value: f'{value:.2f}'),
        ('latency_ms', 'latency of one image in ms', lambda value: f'{value:.1f}'))


def summarise(student: nn.Module, teachers: dict[str, nn.Module], images: Tensor) -> dict[str, Any]:
    """Size and latency of all networks.

    Args:
        student (nn.Module): The student.
        teachers (dict[str, nn.Module]): The teachers by name, a single one under ''; empty if none was used.
        images (Tensor): Normalised images [B, 3, H, W].

    Returns:
        dict[str, Any]: 'student' and 'teacher', each with 'parameters', 'megabytes' (10^6 bytes) and 'latency_ms' (one
            image, with 'threads' threads on 'device'). Several teachers are by name under 'teachers'.
    """
    device = next(student.parameters()).device
    summary: dict[str, Any] = dict(device=str(device), threads=torch.get_num_threads())

    def described(network: nn.Module) -> dict[str, float]:
        return dict(size(network), latency_ms=latency(network, images.to(device)))

    summary['student'] = described(student)
    if '' in teachers:
        summary['teacher'] = described(teachers[''])
    elif teachers:
        summary['teachers'] = {name: described(network) for name, network in teachers.items()}
    return summary


def table(summary: dict[str, Any]) -> str:
    """The summary as text: a row for each quantity, a column for each network."""
    networks = {name: summary[name] for name in ('teacher', 'student') if name in summary}
    networks = {**summary.get('teachers', {}), **networks}
    widths = {name: max(14, len(name) + 2) for name in networks}
    lines = [f'{"":28}' + ''.join(f'{name:>{width}}' for name, width in widths.items())]
    for key, title, text in ROWS:
        if any(key in found for found in networks.values()):
            cells = {name: text(found[key]) if key in found else '' for name, found in networks.items()}
            lines.append(f'{title:28}' + ''.join(f'{cells[name]:>{width}}' for name, width in widths.items()))
    distances = summary.get('distance_to_teacher')
    if distances:
        lines += ['', f'{"distance to the teacher":28}{"before":>14}{"after":>14}']
        lines += [f'{name:28}{distances["before"][name]:>14.4g}{value:>14.4g}' for name, value in distances['after'].items()]
    return '\n'.join(lines)


def write_summary(summary: dict[str, Any], out: str) -> None:
    """Write summary.json, atomically."""
    write_json(os.path.join(out, SUMMARY), summary, indent=2)


def describe(name: str, student: nn.Module, classes: list[str], given: ModelInput) -> Description:
    """The description of a student for the files to deploy."""
    return Description(name, count_outputs(student, side_of(given) or 0), classes, given)


def write_student(student: nn.Module, description: Description, images: Tensor, formats: Sequence[str], out: str,
                  report: Report) -> dict[str, str]:
    """Write the files to deploy; ONNX only if its libraries are installed.

    Args:
        student (nn.Module): The student; on the CPU afterwards.
        description (Description): Its classes and images.
        images (Tensor): Normalised images [B, 3, H, W].
        formats (Sequence[str]): Some of 'pt2', 'onnx'.
        out (str): The folder.
        report (Callable): Is given a line if ONNX is left out.

    Returns:
        dict[str, str]: Paths, see :func:`distpro_app.deploy.deploy`.
    """
    missing = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if 'onnx' in formats and missing:
        report(f'ONNX is left out, because {", ".join(missing)} is not installed: {INSTALL}, then distpro export {out}')
        formats = [name for name in formats if name != 'onnx']
    return deploy(student, description, images.repeat(EXAMPLES, 1, 1, 1)[:EXAMPLES], formats, out)


def export_run(folder: str, formats: Sequence[str] = FORMATS, out: str | None = None, report: Report = print
               ) -> dict[str, str]:
    """Export the student of a finished run again, such as after ONNX was installed.

    Args:
        folder (str): The folder of the run, with student.pth and student.json.
        formats (Sequence[str]): Some of 'pt2', 'onnx'. Defaults to both.
        out (str, optional): The folder to write to. Defaults to None: the folder of the run.
        report (Callable): Is given lines about it. Defaults to ``print``.

    Returns:
        dict[str, str]: Paths, see :func:`distpro_app.deploy.deploy`.

    Raises:
        ArgumentError: If the run is not finished, or a format cannot be written.
    """
    path = os.path.join(folder, 'student.json')
    if not os.path.isfile(path):
        raise ArgumentError(f"'{folder}' has no finished run of distpro distill: there is no student.json in it; "
                            'distpro distill --resume finishes a run')
    with open(path) as file:
        described = json.load(file)
    images = described['input']
    height, width = images['center_crop']
    given = ModelInput(tuple(images['mean']), tuple(images['std']), (height, width))
    student = build_network(described['network'], num_classes=described['num_classes'])
    if not described['num_classes']:
        remove_empty_classifier(student, height)
    load_weights(student, os.path.join(folder, 'student.pth'), 'checkpoint', report=report)
    description = Description(described['network'], described['num_classes'], described['classes'], given)
    examples = torch.randn(EXAMPLES, 3, height, width, generator=torch.Generator().manual_seed(0))
    os.makedirs(out or folder, exist_ok=True)
    return write_student(student, description, examples, formats, out or folder, report)
