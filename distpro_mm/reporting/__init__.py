"""Figures and tables of finished runs; imports no models."""
from .figures import draw_accuracy, draw_process
from .table import budgets_table, choices_table, comparison_table, reach_table, write_csv

__all__ = ['budgets_table', 'choices_table', 'comparison_table', 'draw_accuracy', 'draw_process', 'reach_table', 'write_csv']
