"""WHAT is compared: feature taps, pathways and the grid that a config spans."""
from .maps import Layout
from .pathway import CONNECTIONS, Pathway, connect, depths, span
from .probing import probe, probe_input
from .taps import FeatureTap, TapReader, Trace, find_stages, in_place_off, resolve_logits, resolve_taps, trace

__all__ = [
    'CONNECTIONS', 'FeatureTap', 'Layout', 'Pathway', 'TapReader', 'Trace', 'connect', 'depths', 'find_stages',
    'in_place_off', 'probe', 'probe_input', 'resolve_logits', 'resolve_taps', 'span', 'trace'
]
