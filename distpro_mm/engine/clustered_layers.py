"""Cluster the teacher's layers on training images, before a training that names them as ``dict(type='clustered')``."""
import functools
from collections.abc import Callable, Iterator

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log

from distpro.random_state import preserve_random_states
from distpro.tracing import trace

from ..datasets import evaluated_training_set
from ..models import TapDistill
from ..models.clustering import LayerClusters, check_clustered, cluster_layers, is_clustered
from ..models.probing import probe

BATCH = 64


def has_clustered_layers(cfg: Config) -> bool:
    """Whether a config's distiller has ``transmitters=dict(type='clustered')``."""
    distiller = (cfg.get('model') or {}).get('distiller')
    return isinstance(distiller, dict) and is_clustered(distiller.get('transmitters'))


def cluster_on_training_images(cfg: Config, model: TapDistill) -> LayerClusters:
    """Cluster the teacher's blocks, and write the medoids to the config.

    Args:
        cfg (Config): The config; ``model.distiller.transmitters`` is replaced by a list of layers.
        model (TapDistill): The model of the config, with the teacher's weights.

    Returns:
        LayerClusters: The clusters. Images are evenly spaced in the training set and prepared as for evaluation.
    """
    options = check_clustered(cfg.model.distiller.transmitters)
    teacher = model.teacher
    traced = probe(teacher, model.input_shape, functools.partial(trace, teacher))
    found = cluster_layers(traced, _forwards(cfg, model, options['images']), options['k'], options['metric'])
    cfg.model.distiller.transmitters = found.layers
    print_log('model.distiller.transmitters: ' + ', '.join(layer['module'] for layer in found.layers) +
              f" are the medoids of {len(found.layers)} clusters of the teacher's {len(found.names)} blocks", 'current')
    return found


def _forwards(cfg: Config, model: TapDistill, images: int) -> Iterator[Callable[[], object]]:
    """Forwards of the teacher on batches of training images."""
    dataset = evaluated_training_set(cfg)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(images, len(dataset)), dtype=int)).tolist()
    with preserve_random_states():
        for start in range(0, len(chosen), BATCH):
            batch = pseudo_collate([dataset[index] for index in chosen[start:start + BATCH]])
            data = model.data_preprocessor(batch, False)
            yield functools.partial(model.teacher, data['inputs'], data['data_samples'], mode='tensor')
