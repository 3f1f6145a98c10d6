"""Figures and tables from finished runs' files; no model is imported here."""
from .figures import draw_accuracy, draw_process
from .table import budgets_table, choices_table, comparison_table, reach_table, write_csv

__all__ = ['budgets_table', 'choices_table', 'comparison_table', 'draw_accuracy', 'draw_process', 'reach_table', 'write_csv']
