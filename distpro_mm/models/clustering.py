"""Clusters of a network's layers by the similarity of their features, and the medoid of each (PURSUhInT)."""
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distpro.checks import check_choice, check_whole
from distpro.errors import argument_prefix
from distpro.tracing import FeatureReader, Trace, find_blocks, resolve_taps

from ..errors import ConfigError

KEY = 'model.distiller.transmitters'
METRICS = ('cka', 'cca')
DEFAULTS = dict(k=3, metric='cka', images=512)
SHARE = 0.99  # of the variance that CCA compares


class LayerClusters(NamedTuple):
    """The blocks of a network, L in number, in clusters.

    Args:
        layers (list[dict]): The medoids as layers of the config, from shallow to deep.
        names (list[str]): Names of the blocks [L].
        similarity (np.ndarray): Similarity of the blocks [L, L], in [0, 1].
        clusters (np.ndarray): Cluster of each block [L], numbered in the order of the medoids.
        medoids (np.ndarray): Index of each cluster's medoid.
    """
    layers: list[dict]
    names: list[str]
    similarity: np.ndarray
    clusters: np.ndarray
    medoids: np.ndarray


def is_clustered(transmitters: object) -> bool:
    """Whether ``transmitters`` of a config are ``dict(type='clustered', ...)``."""
    return isinstance(transmitters, dict) and transmitters.get('type') == 'clustered'


def check_clustered(transmitters: dict) -> dict:
    """Check ``dict(type='clustered', ...)``.

    Args:
        transmitters (dict): ``type``, and any of ``k`` (number of clusters, and of layers, >= 1; 3), ``metric`` ('cka' or
            'cca', see :func:`similarities`; 'cka') and ``images`` (number of training images, >= 2; 512).

    Returns:
        dict: ``k``, ``metric`` and ``images``.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """
    options = {name: value for name, value in transmitters.items() if name != 'type'}
    if not set(options) <= set(DEFAULTS):
        raise ConfigError(f'{KEY} has {sorted(set(options) - set(DEFAULTS))}; the options of clustered layers are '
                          f'{", ".join(DEFAULTS)}')
    options = {**DEFAULTS, **options}
    check_whole(f'{KEY}.k', options['k'], error=ConfigError)
    check_whole(f'{KEY}.images', options['images'], least=2, error=ConfigError)
    check_choice(f'{KEY}.metric', options['metric'], METRICS, ConfigError)
    return options


def cluster_layers(traced: Trace, forwards: Iterable[Callable[[], object]], k: int, metric: str) -> LayerClusters:
    """Cluster the blocks of a network, and take the medoid of each cluster.

    The features of each block after its activation are averaged over their positions. The distance of two blocks is one
    minus their similarity. The clusters are those of hierarchical clustering with average linkage; a medoid has the least
    sum of distances to its cluster, and of equal ones it is the deepest.

    Args:
        traced (Trace): A forward of the network.
        forwards (Iterable[Callable]): Each runs the network on a batch of images.
        k (int): Number of clusters, at most the number of blocks.
        metric (str): See :func:`similarities`.

    Returns:
        LayerClusters: The clusters.

    Raises:
        ConfigError: If the network has fewer blocks than clusters.

    Note:
        A reconstruction after the abstract of PURSUhInT (Banitalebi-Dehkordi et al., arXiv 2103.00053), which clusters "with
        respect to several metrics" and takes the centres as hints. Pooling, linkage and medoids are ours.
    """
    with argument_prefix('model.distiller.', ConfigError):
        specs = find_blocks(traced, 'backbone', 'transmitters')
        taps = resolve_taps(specs, traced, 'transmitters')
    if k > len(taps):
        raise ConfigError(f'{KEY}.k={k}: the network has {len(taps)} blocks')
    found: list[list[Tensor]] = []
    for forward in forwards:
        with torch.no_grad(), FeatureReader(traced.modules[''], taps, stop_early=True) as reader:
            forward()
        found.append([reader.features[tap.name].mean((2, 3)).double().cpu() for tap in taps])
    vectors = [torch.cat(parts).numpy() for parts in zip(*found)]
    similarity = similarities(vectors, metric)
    clusters, medoids = medoids_of(similarity, k)
    return LayerClusters([specs[medoid] for medoid in medoids], [tap.layer for tap in taps], similarity, clusters, medoids)


def similarities(vectors: Sequence[np.ndarray], metric: str) -> np.ndarray:
    """Similarities of representations of the same images, in [0, 1].

    'cka' is linear CKA, and 'cca' the mean squared canonical correlation (both: Kornblith et al., ICML 2019) of the leading
    principal directions that have 99% of the variance (SVCCA, Raghu et al., NeurIPS 2017), since with as many directions as
    images all correlations are 1.

    Args:
        vectors (Sequence[np.ndarray]): Features of each of L layers [n, C_l].
        metric (str): 'cka' or 'cca'.

    Returns:
        np.ndarray: The similarities [L, L]; 0 with a layer that is constant.
    """
    centred = [features - features.mean(0) for features in vectors]
    if metric == 'cka':
        found = [x / max(np.linalg.norm(x.T @ x), 1e-300)**0.5 for x in centred]
        return np.array([[np.linalg.norm(x.T @ y)**2 for y in found] for x in found])
    found = [_leading(x) for x in centred]
    return np.array([[np.linalg.norm(x.T @ y)**2 / max(min(x.shape[1], y.shape[1]), 1) for y in found] for x in found])


def _leading(x: np.ndarray) -> np.ndarray:
    """An orthonormal basis [n, d] of the leading principal directions of centred features."""
    basis, values, _ = np.linalg.svd(x, full_matrices=False)
    total = np.cumsum(values**2)
    return basis[:, :0] if total[-1] <= 0 else basis[:, :int(np.searchsorted(total / total[-1], SHARE)) + 1]


def medoids_of(similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters by average linkage, and their medoids.

    Args:
        similarity (np.ndarray): Similarities [L, L] in [0, 1].
        k (int): Number of clusters, from 1 to L.

    Returns:
        tuple[np.ndarray, np.ndarray]: The cluster of each element [L], and the medoids in ascending order [k].
    """
    from scipy.cluster.hierarchy import linkage  # takes long to import, and only clustering needs it
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - (similarity + similarity.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    size = len(distance)
    labels = _cut(linkage(squareform(distance, checks=False), 'average'), size, k) if size > 1 else np.zeros(1, int)
    medoids = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        sums = distance[np.ix_(members, members)].sum(1)
        medoids.append(members[np.flatnonzero(sums <= sums.min() + 1e-9)[-1]])
    order = np.argsort(medoids)
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order))
    return ranks[np.searchsorted(np.unique(labels), labels)], np.array(medoids)[order]


def _cut(tree: np.ndarray, size: int, k: int) -> np.ndarray:
    """Exactly k clusters of a tree of merges: all merges but the last k - 1."""
    members = {index: [index] for index in range(size)}
    for number, (one, other) in enumerate(tree[:size - k, :2].astype(int)):
        members[size + number] = members.pop(one) + members.pop(other)
    labels = np.empty(size, int)
    for label, indices in enumerate(members.values()):
        labels[indices] = label
    return labels


def random_images(traced: Trace) -> Tensor:
    """Random images [64, C, H, W] like those of a trace, the same in every call, for a clustering without data."""
    inputs = [call.inputs[0] for call in traced.calls if call.inputs and isinstance(call.inputs[0], Tensor)]
    given = next(value for value in inputs if value.dim() == 4)
    images = torch.randn(64, *given.shape[1:], generator=torch.Generator().manual_seed(0))
    return images.to(given.device, given.dtype)
