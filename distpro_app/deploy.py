"""Files to deploy a student with: weights, an exported program, ONNX, and a description of its images and classes."""
import dataclasses
import json
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distpro.errors import ArgumentError, first_line
from distpro.files import atomic_write, write_json
from distpro.networks import ModelInput
from distpro.networks.library import import_library
from distpro.tracing import find_logits

INSTALL = "pip install 'distpro_mm[onnx]'"
TOLERANCE = 1e-3  # largest difference to torch, relative to the largest output


@dataclasses.dataclass(frozen=True)
class Description:
    """What a user of the exported student must know.

    Args:
        network (str): Name of the network.
        outputs (int): Number of logits; 0 for features.
        classes (list[str]): Names of the classes in the order of the logits; empty if there are none.
        input (ModelInput): The images: RGB in [0, 1], the shorter side resized to ``size`` (bilinear, with antialiasing),
            the centre cut out, minus ``mean``, divided by ``std``.
        preparation (dict[str, Any]): Entries of the images in :meth:`as_dict` that differ. Defaults to none.
    """
    network: str
    outputs: int
    classes: list[str]
    input: ModelInput
    preparation: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """dict: The description for JSON."""
        height, width = self.input.size or (0, 0)
        return dict(network=self.network, num_classes=self.outputs, classes=self.classes, input=dict(
            name='images', shape=['batch', 3, height, width], type='float32', color='rgb', scale=1 / 255,
            resize_shorter_side=height, interpolation='bilinear, antialiased', center_crop=[height, width],
            mean=list(self.input.mean or ()), std=list(self.input.std or ())) | self.preparation,
            output=dict(name='logits'))


class LogitsOnly(nn.Module):
    """A network that returns its logits [B, K] alone, or without a classifier its features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The logits [B, K] of images [B, 3, H, W]."""
        output = self.network(images)
        pooled = getattr(output, 'pooler_output', None)  # of Hugging Face's networks without a classifier
        return output if isinstance(output, Tensor) else find_logits(output) if pooled is None else pooled.flatten(1)


def deploy(student: nn.Module, description: Description, examples: Tensor, formats: Sequence[str], out: str
           ) -> dict[str, str]:
    """Write the files, and check that the exported ones compute what torch does, for several batch sizes.

    Args:
        student (nn.Module): The student; on the CPU and in eval mode afterwards.
        description (Description): Its classes and images.
        examples (Tensor): Normalised images [B, 3, H, W], three or more, to compare outputs with.
        formats (Sequence[str]): Some of 'pt2', 'onnx'.
        out (str): The folder.

    Returns:
        dict[str, str]: Paths by 'weights', 'description' and format.

    Raises:
        ArgumentError: If a format needs a library that is missing, the network cannot be exported, or outputs differ.
    """
    student.cpu().eval()
    paths = dict(weights=os.path.join(out, 'student.pth'))
    with atomic_write(paths['weights']) as temporary:
        torch.save(student.state_dict(), temporary)
    return paths | write_formats(student, description, examples, formats, out)


def write_formats(student: nn.Module, description: Description, examples: Tensor, formats: Sequence[str], out: str
                  ) -> dict[str, str]:
    """Write the description and the exported files alone; arguments, paths and errors as of :func:`deploy`."""
    student.cpu().eval()
    paths = dict(description=os.path.join(out, 'student.json'))
    described = description.as_dict()
    write_json(paths['description'], described, indent=2)
    if not formats:
        return paths
    network, examples = LogitsOnly(student).eval(), examples.cpu()
    with torch.no_grad():
        wanted = network(examples)
    program = _exported(network, examples)
    if 'pt2' in formats:
        paths['pt2'] = os.path.join(out, 'student.pt2')
        with atomic_write(paths['pt2']) as temporary:
            torch.export.save(program, temporary, extra_files={'student.json': json.dumps(described)})
        again = torch.export.load(paths['pt2']).module()
        _compare(lambda images: again(images), examples, wanted, paths['pt2'])
    if 'onnx' in formats:
        paths['onnx'] = os.path.join(out, 'student.onnx')
        _write_onnx(program, described, paths['onnx'])
        session = import_library('onnxruntime', INSTALL, 'formats').InferenceSession(
            paths['onnx'], providers=['CPUExecutionProvider'])
        _compare(lambda images: torch.from_numpy(session.run(None, dict(images=images.numpy()))[0]), examples, wanted,
                 paths['onnx'])
    return paths


def _exported(network: nn.Module, examples: Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.export.export(network, (examples[:2], ), dynamic_shapes=dict(images={0: torch.export.Dim('batch')}))
    except Exception as error:  # torch raises many kinds for networks that it cannot export
        raise ArgumentError(f'formats: torch.export cannot export this student with any batch size ({first_line(error)}); '
                            'pass --formats none for its weights alone') from error


def _write_onnx(program: torch.export.ExportedProgram, described: dict, path: str) -> None:
    onnx = import_library('onnx', INSTALL, 'formats')
    import_library('onnxscript', INSTALL, 'formats')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            made = torch.onnx.export(program, (), input_names=['images'], output_names=['logits'], dynamo=True,
                                     verbose=False)
    except Exception as error:  # torch 2.6 fails at batch norms
        raise ArgumentError(f'formats: torch {torch.__version__} cannot export this student to ONNX ({first_line(error)}); '
                            'pass --formats pt2, or take a later torch') from error
    model = made.model_proto
    for key, value in dict(classes=described['classes'], input=described['input'], network=described['network']).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    onnx.checker.check_model(model)
    with atomic_write(path) as temporary:
        onnx.save_model(model, temporary)


def _compare(run: Any, examples: Tensor, wanted: Tensor, path: str) -> None:
    """Compare the outputs of an exported file for a batch of all images and for one image."""
    for count in (len(examples), 1):
        with torch.no_grad():
            found = run(examples[:count])
        difference = float((found - wanted[:count]).abs().max()) / max(float(wanted.abs().max()), 1e-12)
        if not difference <= TOLERANCE or not np.isfinite(difference):
            raise ArgumentError(f"formats: '{path}' differs from torch by {difference:.2g} of the largest output for a "
                                f'batch of {count}, more than {TOLERANCE}; do not deploy it')
