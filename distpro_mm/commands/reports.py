"""The report of a finished run."""
from ..reporting.report import write_report


def report(source: str) -> None:
    """Write report.html of a training or a comparison from the files in its work_dir, or the report of a process file.

    Args:
        source (str): The work_dir, or the process file.

    Raises:
        ReportError: If it has no run, or plotly or jinja2 is missing.
    """
    print(f'report: {write_report(source)}')
