"""Traces of a forward, detection of stages, logits and layouts, and reading of features."""
from .blocks import find_blocks
from .fast_forward import FAST_CHOICES, FastForward
from .in_place import in_place_off, in_place_on
from .layout import Layout, LayoutDetector
from .logits import find_logits, is_headless, resolve_logits
from .probe import probe_input
from .reader import FeatureReader
from .resolve import resolve_taps
from .rest import NetworkRest
from .stages import find_stages
from .tap import MAP_SIZE, FeatureTap
from .trace import Call, Trace, tensors_in, trace, trace_example

__all__ = [
    'FAST_CHOICES', 'MAP_SIZE', 'Call', 'FastForward', 'FeatureReader', 'FeatureTap', 'Layout', 'LayoutDetector',
    'NetworkRest', 'Trace', 'find_blocks', 'find_logits', 'find_stages', 'in_place_off', 'in_place_on', 'is_headless',
    'probe_input', 'resolve_logits', 'resolve_taps', 'tensors_in', 'trace', 'trace_example'
]
