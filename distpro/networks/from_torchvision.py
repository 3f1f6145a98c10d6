"""Networks of torchvision."""
from typing import Any

from torch import nn

from ..errors import ArgumentError
from .input import ModelInput, pair
from .library import import_library, unknown
from .weights import load_state

INSTALL = 'pip install torchvision'


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build a classifier of torchvision; see :func:`distpro.networks.build_network`."""
    models = import_library('torchvision.models', INSTALL, source)
    names = models.list_models(models)
    if name not in names:
        raise unknown(source, name, names, 'torchvision')
    weights = None
    if pretrained:
        given = options.pop('weights', 'DEFAULT')
        weights = models.get_weight(given) if '.' in str(given) else models.get_model_weights(name)[given]
    elif options.get('weights') is not None:
        raise ArgumentError(f"{source}: weights={options['weights']!r} needs pretrained=True")
    if num_classes is not None:
        options = dict(options, num_classes=num_classes)
    if name in ('googlenet', 'inception_v3'):
        options = {'init_weights': True, **options}  # it warns without
    if weights is None:
        return models.get_model(name, **options), None
    if num_classes in (None, len(weights.meta['categories'])):
        return models.get_model(name, weights=weights, **{key: value for key, value in options.items() if key not in (
            'num_classes', 'init_weights')}), read_input(weights)
    network = models.get_model(name, **options)
    load_state(network, weights.get_state_dict(progress=False), f'{source}, weights={weights}', new_classifier=True)
    return network, read_input(weights)


def read_input(weights: Any) -> ModelInput:
    """The images of an entry of one of torchvision's enumerations of weights."""
    transforms = weights.transforms()
    size = transforms.crop_size
    return ModelInput(tuple(transforms.mean), tuple(transforms.std), pair(size[0] if len(size) == 1 else list(size)))
