"""What the tools and the console command do, as functions that print their results."""
from ..deployable import deployable_student
from .comparing import ENGINES, compare
from .inspecting import inspect_pathways
from .processes import average, convert, diff, list_processes, show
from .reports import report
from .training import evaluate, export, search, train
from .validating import validate

__all__ = [
    'ENGINES', 'average', 'compare', 'convert', 'deployable_student', 'diff', 'evaluate', 'export', 'inspect_pathways',
    'list_processes', 'report', 'search', 'show', 'train', 'validate'
]
