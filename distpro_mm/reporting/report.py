"""Writes ``report.html`` of a training or a comparison from the files in its work_dir, or the report of a process file."""
import os

from distpro.process import DistillationProcess

from ..errors import ConfigError
from .comparison_report import COMPARISON, comparison_report
from .page import ReportError, write_page
from .run_files import is_run, read_json, read_run
from .run_report import process_report, run_report

__all__ = ['REPORT', 'ReportError', 'write_report']
REPORT = 'report.html'


def write_report(source: str) -> str:
    """Write the report of a training, a comparison or a process. It is one HTML file that needs no network.

    Args:
        source (str): The folder of a training (with ``run.json`` or the log of mmengine) or of a comparison (with
            ``comparison.json``), whose report is ``report.html`` in it; or a process file, whose report is next to it, with
            the suffix ``.html``.

    Returns:
        str: Path of the report.

    Raises:
        ConfigError: If the folder has no files of a training or a comparison.
        ProcessError: If the file is not a process.
        ReportError: If plotly or jinja2 is not installed.
    """
    if os.path.isfile(source):
        path = os.path.splitext(source)[0] + '.html'
        write_page(process_report(DistillationProcess.load(source), source), path, source)
        return path
    comparison = read_json(os.path.join(source, COMPARISON))
    if comparison:
        report = comparison_report(source, comparison)
    elif is_run(source):
        report = run_report(read_run(source))
    else:
        raise ConfigError(f"'{source}' is neither a process file nor the work_dir of a training or a comparison: it has no "
                          f'{COMPARISON}, run.json or */vis_data/scalars.json')
    path = os.path.join(source, REPORT)
    write_page(report, path, source)
    return path
