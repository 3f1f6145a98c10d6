"""Writes ``report.html`` of a training or a comparison from the files in its work_dir."""
import os

from ..errors import ConfigError
from .comparison_report import COMPARISON, comparison_report
from .page import ReportError, write_page
from .run_files import is_run, read_json, read_run
from .run_report import run_report

__all__ = ['REPORT', 'ReportError', 'write_report']
REPORT = 'report.html'


def write_report(work_dir: str) -> str:
    """Write the report of a training or a comparison. It is one HTML file that needs no network.

    Args:
        work_dir (str): The folder of a training (with ``run.json`` or the log of mmengine) or of a comparison (with
            ``comparison.json``).

    Returns:
        str: Path of the report.

    Raises:
        ConfigError: If the folder has no files of a training or a comparison.
        ReportError: If plotly or jinja2 is not installed.
    """
    comparison = read_json(os.path.join(work_dir, COMPARISON))
    if comparison:
        report = comparison_report(work_dir, comparison)
    elif is_run(work_dir):
        report = run_report(read_run(work_dir))
    else:
        raise ConfigError(f"'{work_dir}' is not the work_dir of a training or a comparison: it has neither {COMPARISON}, "
                          'run.json nor */vis_data/scalars.json')
    path = os.path.join(work_dir, REPORT)
    write_page(report, path)
    return path
