"""Names of pathways and of their layers, with the teacher's name if there are several teachers."""
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

LOGITS = 'logits'
SEPARATORS = '.:>'  # of the parts of names
LABEL = f"a text without {' '.join(SEPARATORS)}, which separate the parts of names of pathways"  # for errors


class PathwayName(NamedTuple):
    """The parts of a pathway's name ``<transmitter>><receiver>:<transform>``.

    With several teachers, a name begins with ``<teacher>:``.

    Args:
        teacher (str): Name of the teacher; empty if there is one only.
        transmitter (str): Layer of the teacher, without the teacher's name.
        receiver (str): Layer of the student.
        transform (str): Label of the transform, or of the loss of logits.
    """
    teacher: str
    transmitter: str
    receiver: str
    transform: str

    @property
    def pair(self) -> str:
        """str: The name without the transform."""
        return f'{of_teacher(self.teacher, self.transmitter)}>{self.receiver}'

    @property
    def is_logits(self) -> bool:
        """bool: Whether the pathway is between logits."""
        return self.transmitter == self.receiver == LOGITS

    def __str__(self) -> str:
        return f'{self.pair}:{self.transform}'


def is_label(name: Any) -> bool:
    """Whether a user's name of a teacher or a transform can be a part of the names of pathways."""
    return isinstance(name, str) and bool(name) and not set(name) & set(SEPARATORS)


def parse_name(name: str) -> PathwayName | None:
    """The parts of a pathway's name; None if it is not of this form."""
    parts = re.fullmatch('(?:([^>:]+):)?([^>:]+)>([^>:]+):(.+)', name)
    return PathwayName(parts[1] or '', *parts.groups()[1:]) if parts else None


def is_logits(name: str) -> bool:
    """Whether a name is that of a pathway between logits."""
    parts = parse_name(name)
    return parts is not None and parts.is_logits


def of_teacher(teacher: str, name: str) -> str:
    """str: The name of a layer, or of a pathway, of one of several teachers; ``name`` if ``teacher`` is empty."""
    return f'{teacher}:{name}' if teacher else name


def split_teacher(layer: str) -> tuple[str, str]:
    """tuple[str, str]: The teacher's name, empty if there is one only, and a layer's name without it."""
    teacher, _, name = layer.rpartition(':')
    return teacher, name


def teachers_of(layers: Iterable[str]) -> dict[str, list[str]]:
    """dict[str, list[str]]: For each teacher's name, its layers without this name, in their order."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        teacher, name = split_teacher(layer)
        found.setdefault(teacher, []).append(name)
    return found
