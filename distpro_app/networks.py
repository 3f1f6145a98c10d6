"""Teacher and student of a distillation on a folder, by name, for the folder's classes."""
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from distpro.errors import ArgumentError, argument_prefix, first_line
from distpro.networks import ModelInput, build_network, convert_input, load_weights, model_input
from distpro.tracing import find_logits, is_headless, trace

from .settings import FolderSettings

IMAGENET = ModelInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIDES = 32, 224  # of images without a known size
Report = Callable[[str], Any]


@dataclasses.dataclass
class Teacher:
    """A teacher, and how it was built.

    Args:
        network (nn.Module): The network, for images as :attr:`input` describes.
        outputs (int): Number of its logits; 0 without a classifier.
        new_classifier (bool): Whether its classifier has random weights.
        input (ModelInput, optional): The images of its published weights; None if they are not known.
    """
    network: nn.Module
    outputs: int
    new_classifier: bool
    input: ModelInput | None


def build_teacher(name: str, settings: FolderSettings, classes: int, report: Report) -> Teacher:
    """Build a teacher.

    Args:
        name (str): Its name, see :func:`distpro.build_network`.
        settings (FolderSettings): The settings.
        classes (int): Number of classes; 0 without labels.
        report (Callable): Is given a line for what is loaded.

    Raises:
        ArgumentError: If it cannot be built or its weights do not fit.
    """
    headless = settings.teacher_head == 'none'
    wanted = 0 if headless else classes or None
    pretrained = settings.teacher_weights == 'published' and not settings.teacher_ckpt
    with argument_prefix('teacher: '):
        network = build_network(name, pretrained=pretrained,
                                num_classes=None if pretrained and not headless else wanted)
        expected = model_input(network)
        side = settings.teacher_size or side_of(expected) or settings.image_size or SIDES[1]
        outputs = count_outputs(network, side)
        new = not pretrained
        if pretrained and wanted and outputs not in (0, wanted):
            network = build_network(name, pretrained=True, num_classes=wanted)
            outputs, new = count_outputs(network, side), True
        if outputs and wanted and outputs != wanted:
            raise ArgumentError(f"'{name}' returns {outputs} logits, and the folder has {wanted} classes")
    if settings.teacher_ckpt:
        found = classifier_of(network, torch.randn(2, 3, side, side)) if outputs else None
        before = found.weight.detach().clone() if found is not None else None
        load_weights(network, settings.teacher_ckpt, 'teacher_ckpt', new_classifier=True, report=report)
        new = found is not None and before is not None and torch.equal(before, found.weight)
    return Teacher(network, outputs, bool(outputs) and new, expected)


def build_student(settings: FolderSettings, outputs: int, side: int, report: Report) -> nn.Module:
    """Build the student.

    Args:
        settings (FolderSettings): The settings.
        outputs (int): Number of its logits; 0 for features without a classifier.
        side (int): Height and width of its images.
        report (Callable): Is given a line for what is loaded.

    Raises:
        ArgumentError: If it cannot be built or its weights do not fit.
    """
    torch.manual_seed(settings.seed)
    with argument_prefix('student: '):
        network = build_network(settings.student, num_classes=outputs,
                                pretrained=settings.student_weights == 'published' and not settings.student_ckpt)
    if settings.student_ckpt:
        load_weights(network, settings.student_ckpt, 'student_ckpt', new_classifier=True, report=report)
    with argument_prefix('student: '):
        found = count_outputs(network, side)
        if outputs and found != outputs:
            raise ArgumentError(f"'{settings.student}' returns {found} logits, and {outputs} are needed")
    if not outputs:
        remove_empty_classifier(network, side)
    return network


def remove_empty_classifier(network: nn.Module, side: int) -> None:
    """Replace a linear layer of 0 classes, which some libraries build, so that the network returns its features."""
    layer = classifier_of(network, torch.randn(2, 3, side, side))
    if layer is not None and layer.out_features == 0:
        network.set_submodule(next(name for name, module in network.named_modules() if module is layer), nn.Identity())


def image_input(settings: FolderSettings, teacher: ModelInput | None, student: ModelInput | None, median_side: int
                ) -> ModelInput:
    """The images that the loader makes: the student's, else the teacher's, else ImageNet's mean and standard deviation.

    Args:
        settings (FolderSettings): The settings.
        teacher (ModelInput, optional): The images of the teacher's published weights.
        student (ModelInput, optional): Those of the student's.
        median_side (int): Median of the images' shorter sides in pixels.
    """
    values = student or teacher or IMAGENET
    typical = min(SIDES[1], max(SIDES[0], -(-median_side // SIDES[0]) * SIDES[0]))
    side = settings.image_size or side_of(student) or side_of(teacher) or typical
    return ModelInput(values.mean or (0., ) * 3, values.std or (1., ) * 3, (side, side))


def convert_for(teacher: Teacher, given: ModelInput, size: int | None) -> None:
    """Convert the loader's images in every forward of the teacher, if it expects others."""
    if teacher.input is not None or size is not None:
        known = teacher.input or given
        side = size or side_of(teacher.input)
        wanted = dataclasses.replace(known, size=None if side in (None, side_of(given)) else (side, side))
        if wanted != dataclasses.replace(given, size=None):
            convert_input(teacher.network, given, wanted)


def side_of(images: ModelInput | None) -> int | None:
    """int: Height of the images; None if it is not known."""
    return None if images is None or images.size is None else images.size[0]


def count_outputs(network: nn.Module, side: int) -> int:
    """int: Number of a network's logits for images of this height and width; 0 if it returns features.

    Raises:
        ArgumentError: If the network cannot take images of this size.
    """
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        traced = trace(network, lambda: network(images))
    except Exception as error:  # networks raise many kinds
        raise ArgumentError(f'its forward fails for RGB images of {side} x {side} pixels ({first_line(error)}); pass the '
                            'size of its images: --image-size, and --teacher-size for a teacher of another size') from error
    logits = logits_or_none(traced.output)
    return 0 if is_headless(traced, logits) or logits is None else logits.shape[1]


def logits_or_none(output: Any) -> Tensor | None:
    """Tensor: The logits [B, K] in what a network returns; None if there are none."""
    try:
        return find_logits(output)
    except ArgumentError:
        return None


def classifier_of(network: nn.Module, images: Tensor) -> nn.Linear | None:
    """The linear layer that computes a network's logits.

    Args:
        network (nn.Module): The network.
        images (Tensor): Two images or more [B, 3, H, W].

    Returns:
        nn.Linear: The layer; None if the logits are computed otherwise.
    """
    traced = trace(network, lambda: network(images))
    logits = logits_or_none(traced.output)
    if logits is None:
        return None
    return next((call.module for call in reversed(traced.calls) if isinstance(call.module, nn.Linear)
                 and call.output.shape == logits.shape and torch.equal(call.output, logits)), None)
