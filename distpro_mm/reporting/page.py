"""Turns a report into one HTML file that needs no network."""
import base64
import functools
import gzip
import importlib.util
import json
import math
import pathlib
from typing import Any

from distpro.files import atomic_write

from ..errors import ConfigError
from .parts import Report

TEMPLATES = pathlib.Path(__file__).parent / 'templates'
LIBRARIES = ('plotly', 'jinja2')


class ReportError(ConfigError):
    """A report that cannot be written, because a library is missing."""


def write_page(report: Report, path: str, source: str) -> None:
    """Write a report to an HTML file.

    Args:
        report (Report): The report.
        path (str): The file.
        source (str): What it is made from: the argument of ``tools/report.py``, for the error.

    Raises:
        ReportError: If plotly or jinja2 is not installed.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ReportError(f"report.html needs {' and '.join(missing)}: pip install 'distpro_mm[report]', then python "
                          f'tools/report.py {source}')
    import jinja2
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters['json'] = embedded_json
    text = environment.get_template('report.html').render(
        report=report, plotly=plotly(), style=_file('report.css'), script=_file('report.js'))
    with atomic_write(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def embedded_json(content: Any) -> str:
    """JSON that may stand inside a script element; numbers that are not finite become null."""
    import markupsafe
    text = json.dumps(_finite(content), separators=(',', ':'))
    return markupsafe.Markup(text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026'))


@functools.cache
def plotly() -> str:
    """str: The library that draws, compressed (gzip) and in base64: 2 MB instead of 5."""
    from plotly.offline import get_plotlyjs
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding='utf-8')


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
