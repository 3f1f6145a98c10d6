"""Settings of a distillation on a folder of images: their checks and their file."""
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from distpro.checks import FLAG, MAX_SEED, check_choice, check_number, check_whole
from distpro.errors import ArgumentError, first_line
from distpro.files import nearest_path, write_json

METHODS = ('pathways', 'kd', 'student')
WEIGHTS = ('published', 'random')
HEADS = ('classes', 'none')
OPTIMIZERS = ('auto', 'sgd', 'adamw')
FORMATS = ('pt2', 'onnx')
DEVICES = ('auto', 'cpu', 'cuda')


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """What a distillation on a folder of images is to do.

    Args:
        data (str): Folder with ``train/CLASS/`` and ``val/CLASS/``, or with ``CLASS/`` alone, which is split. Without
            ``labels``, any folder with images.
        teacher (str or tuple[str]): Name of the teacher, see :func:`distpro.build_network`. It may be given several times;
            then the student learns from all, and the other options of the teacher are for each.
        student (str): Name of the student.
        out (str): Folder for the results. Defaults to 'distilled'.
        labels (bool): Whether folders are classes. Defaults to True.
        method (str): 'pathways': features and logits with the weights of ``process``; 'kd': logits alone, with a weight of
            1; 'student': no teacher in the student's training. Defaults to 'pathways'.
        process (str): A process of the library or a process file, for 'pathways'. Defaults to 'general'.
        epochs (int): Epochs of the student. Defaults to 30.
        batch_size (int): Images a step, >= 2. Defaults to 64.
        image_size (int, optional): Height and width in pixels. Defaults to None: what the student's published weights
            expect, else the teacher's, else the median of the images, 32 to 224.
        teacher_ckpt (str, optional): File with the weights of the only teacher. Defaults to None.
        teacher_weights (str): 'published' or 'random', without ``teacher_ckpt``. Defaults to 'published'.
        teacher_head (str): 'classes': a classifier of the folder's classes; 'none': features alone. Defaults to 'classes'.
        teacher_size (int, optional): Height and width of the teacher's images. Defaults to None: those of its published
            weights, else ``image_size``.
        train_teacher (int): Epochs that all weights of the teacher are trained first. Defaults to 0: only a new classifier.
        student_weights (str): 'published' or 'random', without ``student_ckpt``. Defaults to 'random'.
        student_ckpt (str, optional): File with the student's weights to start from. Defaults to None.
        optimizer (str): 'sgd' (momentum 0.9), 'adamw', or 'auto': 'sgd' for networks with batch norm, else 'adamw'.
            Defaults to 'auto'.
        lr (float, optional): Learning rate of the student after the warm-up, > 0. Defaults to None: 0.05 with 'sgd' and
            random weights, 0.01 with 'sgd' and others; 0.001 and 0.0003 with 'adamw'.
        weight_decay (float, optional): Defaults to None: 0.0005 with 'sgd', 0.05 with 'adamw'.
        min_crop (float): Least share of an image's area in a random crop, in (0, 1]. Defaults to 0.5.
        flip (bool): Flip half of the training images. Defaults to True.
        held_out (float): Share of the images that is held out where there is no ``val``, in (0, 1). Defaults to 0.2.
        skip_unreadable (bool): Leave out images that cannot be read. Defaults to False: refuse them.
        memory (float): GiB of decoded images that may be stored; more images are decoded in every epoch. Defaults to 2.
        workers (int): Processes that decode images which are not stored. Defaults to 2.
        formats (Sequence[str]): Exported files beside the weights, of 'pt2', 'onnx'. Defaults to both.
        device (str): 'cpu', 'cuda', or 'auto': a GPU if there is one. Defaults to 'auto'.
        seed (int): Seed of the split, the initial weights, the order and the crops. Defaults to 0.

    Raises:
        ArgumentError: If a value is out of range, or two do not fit together.
    """
    data: str
    teacher: str | tuple[str, ...]
    student: str
    out: str = 'distilled'
    labels: bool = True
    method: str = 'pathways'
    process: str = 'general'
    epochs: int = 30
    batch_size: int = 64
    image_size: int | None = None
    teacher_ckpt: str | None = None
    teacher_weights: str = 'published'
    teacher_head: str = 'classes'
    teacher_size: int | None = None
    train_teacher: int = 0
    student_weights: str = 'random'
    student_ckpt: str | None = None
    optimizer: str = 'auto'
    lr: float | None = None
    weight_decay: float | None = None
    min_crop: float = 0.5
    flip: bool = True
    held_out: float = 0.2
    skip_unreadable: bool = False
    memory: float = 2.0
    workers: int = 2
    formats: tuple[str, ...] = FORMATS
    device: str = 'auto'
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.teacher, (tuple, list)):
            several = tuple(self.teacher)
            object.__setattr__(self, 'teacher', several[0] if len(several) == 1 else several)
        for name in ('data', 'teacher', 'student', 'out', 'process', 'teacher_ckpt', 'student_ckpt'):
            value = getattr(self, name)
            optional = name.endswith('ckpt')
            several = value if name == 'teacher' and isinstance(value, tuple) and value else (value, )
            if not (all(isinstance(part, str) and part for part in several) or optional and value is None):
                raise ArgumentError(f'{name}={value!r} must be a text')
        for name in ('labels', 'flip', 'skip_unreadable'):
            check_choice(name, getattr(self, name), FLAG)
        for name, choices in dict(method=METHODS, teacher_weights=WEIGHTS, teacher_head=HEADS, student_weights=WEIGHTS,
                                  optimizer=OPTIMIZERS, device=DEVICES).items():
            check_choice(name, getattr(self, name), choices)
        for name, least in dict(epochs=1, batch_size=2, train_teacher=0, workers=0).items():
            check_whole(name, getattr(self, name), least)
        check_whole('seed', self.seed, 0, MAX_SEED - 1)
        for name in ('image_size', 'teacher_size'):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 8)
        if self.lr is not None:
            check_number('lr', self.lr, above=0)
        if self.weight_decay is not None:
            check_number('weight_decay', self.weight_decay, least=0)
        check_number('min_crop', self.min_crop, above=0, most=1)
        check_number('held_out', self.held_out, above=0, below=1)
        check_number('memory', self.memory, least=0)
        if not isinstance(self.formats, (tuple, list)):
            raise ArgumentError(f'formats={self.formats!r} must be a list with some of {", ".join(FORMATS)}')
        for name in self.formats:
            check_choice('formats', name, FORMATS)
        object.__setattr__(self, 'formats', tuple(self.formats))
        if len(self.teachers) > 1 and self.teacher_ckpt:
            raise ArgumentError(f"teacher_ckpt='{self.teacher_ckpt}' is for one teacher, and there are "
                                f'{len(self.teachers)}: name teachers by functions that load their weights '
                                '(module:PACKAGE.FUNCTION)')
        if not self.labels and self.train_teacher:
            raise ArgumentError(f'train_teacher={self.train_teacher} needs labels; without them the teacher is taken as it '
                                'is')
        if not self.labels and self.method == 'student':
            raise ArgumentError("method='student' needs labels; without them the student has nothing to learn from")
        if (self.teacher_weights == 'random' and not self.teacher_ckpt and not self.train_teacher
                and self.method != 'student'):
            raise ArgumentError("teacher_weights='random': a teacher of random weights has nothing to teach; give "
                                "train_teacher (epochs), teacher_ckpt (a file), or teacher_weights='published'")
        if self.teacher_head == 'none' and (self.train_teacher or self.method == 'kd'):
            raise ArgumentError("teacher_head='none': a teacher without classifier cannot be trained on labels and has no "
                                "logits for method='kd'; leave teacher_head at 'classes'")

    @property
    def teachers(self) -> dict[str, str]:
        """dict[str, str]: The teachers by a short name for their pathways; a single one has the name ''."""
        if isinstance(self.teacher, str):
            return {'': self.teacher}
        found: dict[str, str] = {}
        for teacher in self.teacher:
            name = re.sub(r'[^\w-]', '_', teacher.partition(':')[2] or teacher)
            found[f'{name}_{len(found) + 1}' if name in found else name] = teacher
        return found

    def save(self, path: str) -> None:
        """Write the settings as JSON, atomically."""
        write_json(path, dataclasses.asdict(self), indent=2)


def read_settings(path: str) -> dict[str, Any]:
    """The settings in a file of :meth:`FolderSettings.save`, which may have some of them only.

    Args:
        path (str): The file.

    Raises:
        ArgumentError: If it cannot be read, or has unknown settings.
    """
    if not os.path.isfile(path):
        raise ArgumentError(f"settings='{path}': there is no such file{nearest_path(path)}")
    try:
        with open(path, encoding='utf-8') as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"settings='{path}' cannot be read as JSON ({first_line(error)})") from error
    known = [field.name for field in dataclasses.fields(FolderSettings)]
    if not isinstance(found, dict):
        raise ArgumentError(f"settings='{path}' must have an object with some of {', '.join(known)}")
    for name in found:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ArgumentError(f"settings='{path}' has '{name}', which is no setting; nearest: {nearest[0]}")
    return found


def formats_of(text: str, known: Sequence[str] = (*FORMATS, 'none')) -> tuple[str, ...]:
    """The formats in a text such as 'pt2,onnx'.

    Args:
        text (str): Names of formats, separated by commas; 'none' alone for no format, where it is known.
        known (Sequence[str]): The names that are allowed. Defaults to those of a folder's student.

    Raises:
        ArgumentError: If one is unknown.
    """
    if text == 'none' and 'none' in known:
        return ()
    names = tuple(text.split(','))
    unknown = [name for name in names if name not in known or name == 'none']
    if unknown:
        raise ArgumentError(f"formats='{text}': '{unknown[0]}' is not one of {', '.join(known)}")
    return names
