"""A distillation on a folder of images, from the folder to the exported student."""
import dataclasses
import functools
import hashlib
import math
import os
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distpro import Distillation
from distpro.checks import FLAG, check_choice
from distpro.errors import ArgumentError, argument_prefix
from distpro.files import atomic_write
from distpro.guessing import chance
from distpro.networks import ModelInput, check_source, model_input
from distpro.process import load_process
from distpro.tracing import find_logits

from .evaluation import accuracy, teacher_distance
from .images import SPLIT, Images, ImageSet, check_readable, find_images, is_run, loader
from .networks import Report, Teacher, build_student, build_teacher, convert_for, count_outputs, image_input, side_of
from .results import describe, summarise, write_student, write_summary
from .settings import FolderSettings, read_settings
from .teacher import adapt_teacher, check_teacher, percent
from .training import Training, build_optimizer

SETTINGS = 'settings.json'
WITHOUT_EFFECT = ('out', 'formats', 'workers', 'memory', 'device')  # settings that may change when a run continues
KD = dict(progress=[0, 1], weights=dict(features=[0, 0], logits=[1, 1]))


@dataclasses.dataclass
class FolderRun:
    """What the parts of a run share.

    Args:
        settings (FolderSettings): The settings.
        images (Images): The images.
        teachers (dict[str, Teacher]): The teachers by the names of their pathways; a single one has the name ''.
        student (nn.Module): The student.
        given (ModelInput): The images that the loaders make.
        identity (str): What the checkpoints belong to.
        resume (bool): Continue from checkpoints.
        report (Callable): Is given a line about each step.
    """
    settings: FolderSettings
    images: Images
    teachers: dict[str, Teacher]
    student: nn.Module
    given: ModelInput
    identity: str
    resume: bool
    report: Report

    def loader(self, held_out: bool = False, augmented: bool = False) -> torch.utils.data.DataLoader:
        """A loader of the held-out or of the training images; with ``augmented`` in random order, crops and flips."""
        settings = self.settings
        items = self.images.held_out if held_out else self.images.train
        images = ImageSet(items, self.given, settings.memory / 3, min_crop=settings.min_crop if augmented else 0,
                          flip=augmented and settings.flip)
        return loader(images, settings.batch_size, settings.workers, augmented)

    @functools.cached_property
    def training(self) -> torch.utils.data.DataLoader:
        """DataLoader: The training images as both networks are trained with them, stored once."""
        return self.loader(augmented=True)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: The networks of the teachers by name."""
        return {name: teacher.network for name, teacher in self.teachers.items()}

    @property
    def has_logits(self) -> bool:
        """bool: Whether a teacher returns logits."""
        return any(teacher.outputs for teacher in self.teachers.values())

    def path(self, name: str) -> str:
        """str: A file in the folder of results."""
        return os.path.join(self.settings.out, name)


def distill_folder(settings: FolderSettings, resume: bool, report: Report = print) -> dict[str, Any]:
    """Distil a student on a folder of images, and write it to ``settings.out`` with a summary.

    Args:
        settings (FolderSettings): The settings.
        resume (bool): Continue a run in ``settings.out``.
        report (Callable): Is given a line about each step. Defaults to ``print``.

    Returns:
        dict[str, Any]: The summary, as in summary.json.

    Raises:
        ArgumentError: If a setting is wrong, an image cannot be read, networks do not fit, or the loss is not finite.
    """
    check_choice('resume', resume, FLAG)
    run = _prepared(settings, resume, report)
    held_out = run.loader(held_out=True)
    uses_teacher = settings.method != 'student'
    accuracies = _adapted(run, held_out) if uses_teacher and settings.labels else {}
    kd = _distillation(run, next(iter(run.loader()))[0]) if uses_teacher else None
    start = teacher_distance(kd, held_out) if kd is not None and not settings.labels else {}
    _train_student(run, kd, held_out)
    images = next(iter(held_out))[0]
    summary = summarise(run.student, run.networks if uses_teacher else {}, images)
    if settings.labels:
        summary['student']['accuracy'] = accuracy(run.student, held_out)
        for name, found in accuracies.items():
            (summary['teachers'][name] if name else summary['teacher'])['accuracy'] = found
        share, limit = chance([label for _, label in run.images.held_out])
        if summary['student']['accuracy'] <= limit:
            report(f'warning: the student has learnt no more than guessing, which is right on {percent(share)}: pass '
                   'another --lr or more --epochs, or compare with --method kd and --method student')
    elif kd is not None:
        summary['distance_to_teacher'] = dict(before=start, after=teacher_distance(kd, held_out))
    if kd is not None:
        kd.close()
    description = describe(settings.student, run.student, run.images.classes, run.given)
    summary['files'] = write_student(run.student, description, images, settings.formats, settings.out, report)
    write_summary(summary, settings.out)
    return summary


def _adapted(run: FolderRun, held_out: torch.utils.data.DataLoader) -> dict[str, float]:
    """Adapt the teachers to the classes; accuracies on held-out images by name, of teachers with logits."""
    accuracies = {}
    for name, teacher in run.teachers.items():
        if teacher.outputs:
            report = _report_of(name, run.report)
            adapt_teacher(teacher, run.settings, run.loader(), run.training, held_out,
                          run.path(f'teacher_checkpoint{f"_{name}" * bool(name)}.pth'), run.identity, run.resume, report)
            accuracies[name] = check_teacher(teacher.network, held_out, [label for _, label in run.images.held_out], report)
    return accuracies


def _report_of(name: str, report: Report) -> Report:
    """A report whose lines begin with the name of one of several teachers."""
    return (lambda line: report(f'{name}: {line}')) if name else report


def open_run(settings: FolderSettings, resume: bool) -> None:
    """Write the settings to the folder of results, which must have no other run.

    Raises:
        ArgumentError: If the folder has a run and ``resume`` is not wanted, or the run has other settings.
    """
    path = os.path.join(settings.out, SETTINGS)
    if os.path.exists(path):
        if not resume:
            raise ArgumentError(f"out='{settings.out}' has a run: continue it with --resume, or pass another --out")
        stored = FolderSettings(**read_settings(path))
        for field in dataclasses.fields(settings):
            before, now = getattr(stored, field.name), getattr(settings, field.name)
            if before != now and field.name not in WITHOUT_EFFECT:
                raise ArgumentError(f"{field.name}={now!r}: the run in '{settings.out}' has {before!r}, and a run continues "
                                    'with the settings that it started with; pass another --out')
    try:
        os.makedirs(settings.out, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"out='{settings.out}' cannot be made a folder ({error.strerror}): pass another --out") from None
    settings.save(path)


def _prepared(settings: FolderSettings, resume: bool, report: Report) -> FolderRun:
    """Find the images and build the networks."""
    _check_names(settings)
    found = find_images(settings.data, settings.labels, settings.held_out, settings.seed, report)
    found, side = check_readable(found, settings.skip_unreadable, report)
    report(f'{len(found.train)} training images, {len(found.held_out)} held out, {len(found.classes) or "no"} classes')
    torch.manual_seed(settings.seed)
    teachers = {name: build_teacher(network, settings, len(found.classes), _report_of(name, report))
                for name, network in settings.teachers.items()}
    of_teachers = [teacher.outputs for teacher in teachers.values() if teacher.outputs]
    outputs = len(found.classes) or next(iter(of_teachers), 0)
    if settings.method == 'kd' and not of_teachers:
        raise ArgumentError("method='kd': the teacher has no logits; take method='pathways'")
    known = next((teacher.input for teacher in teachers.values() if teacher.input is not None), None)
    wanted = image_input(settings, known, None, side)
    student = build_student(settings, outputs, side_of(wanted) or side, report)
    given = image_input(settings, known, model_input(student), side)
    for teacher in teachers.values():
        convert_for(teacher, given, settings.teacher_size)
        count_outputs(teacher.network, side_of(given) or side)  # an early error
    if resume and not is_run(settings.out):
        report(f"out='{settings.out}' has no run to continue: it starts now")
    open_run(settings, resume)
    with atomic_write(os.path.join(settings.out, SPLIT)) as temporary, open(
            temporary, 'w', encoding='utf-8', errors='surrogateescape') as file:
        file.writelines(f'{os.path.relpath(path, settings.data)}\n' for path, _ in found.held_out)
    identity = hashlib.sha256(repr([found.fingerprint(), *(
        getattr(settings, field.name) for field in dataclasses.fields(settings)
        if field.name not in WITHOUT_EFFECT)]).encode()).hexdigest()
    device = settings.device if settings.device != 'auto' else 'cuda' if torch.cuda.is_available() else 'cpu'
    for network in (student, *(teacher.network for teacher in teachers.values())):
        network.to(device)
    return FolderRun(settings, found, teachers, student, given, identity, resume, report)


def _check_names(settings: FolderSettings) -> None:
    """Refuse names that are misspelt before any image is read."""
    for key, names in (('teacher', settings.teachers.values()), ('student', [settings.student])):
        with argument_prefix(f'{key}: '):
            for name in names:
                check_source(name)
    if settings.method == 'pathways':
        with argument_prefix('process: '):
            load_process(settings.process)


def _distillation(run: FolderRun, images: Tensor) -> Distillation:
    settings = run.settings
    torch.manual_seed(settings.seed)
    device = next(run.student.parameters()).device
    process: Any = KD if settings.method == 'kd' else settings.process
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', UserWarning)
        kd = Distillation(run.student, run.networks.get('', run.networks), images[:2].to(device),
                          connections='nearest_depth', process=process, transfer=True,
                          steps=settings.epochs * len(run.loader(augmented=True)),
                          logits=None if run.has_logits else {})
    for warning in caught:
        if 'distpro' in warning.filename:
            run.report(f'warning: {warning.message}')
    compared = ('features alone' if not run.has_logits else
                'logits alone' if settings.method == 'kd' else 'features and logits')
    who = 'the teacher teaches by its' if '' in run.teachers else 'the teachers teach by their'
    run.report(f'{who} {compared}: {len(kd.grid.pathways)} pathways')
    return kd


def _train_student(run: FolderRun, kd: Distillation | None, held_out: torch.utils.data.DataLoader) -> None:
    settings, student = run.settings, run.student

    def loss(images: Tensor, labels: Tensor, progress: float) -> Tensor:
        if kd is None:
            return F.cross_entropy(find_logits(student(images)), labels)
        out = kd(images, progress=progress)
        if not settings.labels:
            return out.loss
        cross_entropy = F.cross_entropy(out.logits, labels)
        training.cross_entropy = cross_entropy, math.log(out.logits.size(1))
        return out.loss + out.cross_entropy * cross_entropy

    def evaluate() -> str:
        if settings.labels:
            return f'{percent(accuracy(student, held_out))} of the held-out images right'
        assert kd is not None
        return ', '.join(f'{name} {value:.4g}' for name, value in teacher_distance(kd, held_out).items())

    is_random = settings.student_weights == 'random' and not settings.student_ckpt
    modules: dict[str, nn.Module] = dict(student=student)
    if kd is not None:
        modules['transforms'] = kd
    optimizer = build_optimizer(settings, student, kd.parameters() if kd is not None else (), random_weights=is_random)
    training = Training(modules, optimizer, loss, run.training, settings.epochs, run.path('checkpoint.pth'), settings.seed,
                        run.identity, lambda line: run.report(f'student, {line}'), kd.level if kd is not None else None)
    training.run(run.resume, evaluate)
