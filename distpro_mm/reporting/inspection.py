"""Text tables of the layers and pathways of a config."""
import pprint
from collections.abc import Iterable, Sequence

from distpro.pathways import Pathway
from distpro.tracing import FeatureTap

HOLDS = dict(map='', channels_last='channels last', tokens='tokens')


def as_config(tap: FeatureTap) -> dict:
    """The explicit config of a tap's layer.

    Args:
        tap (FeatureTap): A tap at the last call of its layer.

    Returns:
        dict: An entry of ``transmitters`` or ``receivers`` that resolves to the same tap.
    """
    spec: dict[str, object] = dict(module=tap.layer, name=tap.name)
    if tap.side == 'input':
        spec['before_activation'] = True
    elif tap.element is not None:
        spec['element'] = tap.element
    return spec


def layer_rows(taps: Iterable[FeatureTap]) -> list[list[str]]:
    """Rows of a table of layers; the first row has the column titles."""
    rows = [['layer', 'name', 'map [C, H, W]', 'read as']]
    for tap in taps:
        read = [HOLDS[tap.layout.kind]]
        if tap.layout.before or tap.layout.after:
            read.append(f'without {tap.layout.before} before and {tap.layout.after} behind')
        if tap.element is not None:
            read.append(f'element {tap.element!r}')
        if tap.side == 'input':
            read.append(f'before the activation {tap.module}')
        rows.append([tap.layer, tap.name, ' x '.join(map(str, tap.shape)), ', '.join(filter(None, read))])
    return rows


def pathway_rows(pathways: Sequence[Pathway], parameters: Sequence[int], costs: Sequence[float],
                 weights: Sequence[float]) -> list[list[str]]:
    """Rows of a table of pathways; the first row has the column titles.

    Args:
        pathways (Sequence[Pathway]): The pathways [N].
        parameters (Sequence[int]): Number of parameters of each pathway's transform [N].
        costs (Sequence[float]): Cost of each pathway in training steps of the student alone [N].
        weights (Sequence[float]): Initial weights [N].
    """
    rows = [['pathway', 'student', 'teacher', 'parameters', 'cost', 'weight']]
    for pathway, count, cost, weight in zip(pathways, parameters, costs, weights):
        shapes = (' x '.join(map(str, tap.shape)) for tap in (pathway.receiver, pathway.transmitter))
        rows.append([pathway.name, *shapes, f'{count:,}', f'{cost:.2f}', f'{weight:.2f}'])
    return rows


def cluster_rows(names: Sequence[str], clusters: Sequence[int], medoids: Sequence[int],
                 similarity: Sequence[Sequence[float]]) -> list[list[str]]:
    """Rows of a table of a network's blocks, in clusters; the first row has the column titles.

    Args:
        names (Sequence[str]): Names of the blocks [L].
        clusters (Sequence[int]): Cluster of each block, from 0 [L].
        medoids (Sequence[int]): Index of each cluster's medoid.
        similarity (Sequence[Sequence[float]]): Similarities of the blocks, in [0, 1] [L, L].
    """
    rows = [['block', 'cluster', *(str(place + 1) for place in range(len(names)))]]
    for place, (name, values) in enumerate(zip(names, similarity)):
        chosen = ', medoid' if place in medoids else ''
        rows.append([f'{place + 1}: {name}', f'{clusters[place] + 1}{chosen}', *(f'{value:.2f}' for value in values)])
    return rows


def explicit_config(pathways: Sequence[Pathway]) -> str:
    """The explicit layers and connections of feature pathways, as text for ``model.distiller``."""
    parts = dict(
        transmitters=[as_config(tap) for tap in dict.fromkeys(pathway.transmitter for pathway in pathways)],
        receivers=[as_config(tap) for tap in dict.fromkeys(pathway.receiver for pathway in pathways)],
        connections=list(dict.fromkeys((pathway.transmitter.name, pathway.receiver.name) for pathway in pathways)))
    return ',\n'.join(f'{key}={pprint.pformat(value, width=100, sort_dicts=False)}' for key, value in parts.items())
