"""The parts that a report is made of."""
import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text (str): What is shown.
        value (float, optional): Value by which the table is sorted; None: by the text. Empty cells are last.
        link (str, optional): Relative path of a file to open. Defaults to None.
    """
    text: str
    value: float | None = None
    link: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title (str): Its title.
        columns (Sequence[str]): Titles of the columns.
        rows (Sequence[Sequence[Cell]]): The rows.
        note (str): Text below. Defaults to none.
    """
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ''
    kind = 'table'

    @property
    def numeric(self) -> list[bool]:
        """list[bool]: For each column, whether all its cells with text have values."""
        columns = [[cell for cell in column if cell.text] for column in zip(*self.rows)]
        return [bool(cells) and all(cell.value is not None for cell in cells) for cells in columns]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure drawn by plotly.

    Args:
        title (str): Its title.
        figure (dict): ``data`` and ``layout`` of plotly, without colours of text and background.
        summary (str): The figure in words, also for those who cannot see it.
        table (Table, optional): The values. Defaults to None.
    """
    title: str
    figure: dict[str, Any]
    summary: str
    table: Table | None = None
    kind = 'chart'


@dataclasses.dataclass(frozen=True)
class Map:
    """Weights by the teacher's and the student's layer, with a slider over the training.

    Args:
        title (str): Its title.
        teacher (Sequence[str]): Layers of the teacher [T], from shallow to deep.
        student (Sequence[str]): Layers of the student [S], from shallow to deep.
        progress (Sequence[float]): Shares of the training [M].
        weights (dict[str, list]): For each choice of transforms, weights [M, T, S]; None where there is no pathway.
        summary (str): The map in words.
        table (Table): The values at some shares of the training.
    """
    title: str
    teacher: Sequence[str]
    student: Sequence[str]
    progress: Sequence[float]
    weights: dict[str, list]
    summary: str
    table: Table
    kind = 'map'

    @property
    def data(self) -> dict[str, Any]:
        """dict: What the page's script draws."""
        return dict(teacher=self.teacher, student=self.student, progress=self.progress, weights=self.weights)


@dataclasses.dataclass(frozen=True)
class Lines:
    """Lines of text in a list.

    Args:
        title (str): Title of the list.
        lines (Sequence[str]): The lines.
    """
    title: str
    lines: Sequence[str]
    kind = 'lines'


@dataclasses.dataclass(frozen=True)
class Code:
    """Commands or a config.

    Args:
        title (str): What it is.
        text (str): The text.
        folded (bool): Whether it is shown only on request. Defaults to False.
    """
    title: str
    text: str
    folded: bool = False
    kind = 'code'


Part = Table | Chart | Map | Lines | Code


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a report.

    Args:
        title (str): Its title.
        parts (Sequence[Part]): Its parts.
        text (str): Text before the parts. Defaults to none.
    """
    title: str
    parts: Sequence[Part]
    text: str = ''


@dataclasses.dataclass(frozen=True)
class Report:
    """A report.

    Args:
        title (str): Its title.
        subtitle (str): One line below the title.
        facts (Sequence[tuple[str, str]]): Names and values of the most important results.
        sections (Sequence[Section]): The sections.
        warning (str): What the reader must know first. Defaults to none.
    """
    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    warning: str = ''
