"""Figures and tables from finished runs' files; no model is imported here."""
from .figures import draw_process
from .table import comparison_table, write_csv

__all__ = ['comparison_table', 'draw_process', 'write_csv']
