"""Figures and tables from finished runs' files; no model is imported here."""
from .figures import draw_process

__all__ = ['draw_process']
