"""Networks of mmpretrain by name, for ``distpro.build_network``."""
from typing import Any

from mmpretrain import get_model, list_models
from torch import nn

from distpro.networks import ModelInput, register_source
from distpro.networks.library import unknown


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build a classifier of mmpretrain's model zoo; see :func:`distpro.networks.build_network`."""
    names = list_models()
    if name not in names:
        raise unknown(source, name, names, 'mmpretrain')
    if num_classes is not None:
        options = dict(options, head=dict(options.get('head') or {}, num_classes=num_classes))
    network = get_model(name, pretrained=pretrained, **options)
    return network, read_input(network) if pretrained else None


def read_input(network: nn.Module) -> ModelInput:
    """The images of a classifier, from its preprocessor, whose mean and deviation are for images in [0, 255]."""
    preprocessor = network.data_preprocessor
    values = {name: getattr(preprocessor, name, None) for name in ('mean', 'std')}
    return ModelInput(**{name: None if value is None else tuple(number / 255 for number in value.flatten().tolist())
                         for name, value in values.items()}, rgb=bool(getattr(preprocessor, 'to_rgb', True)))


register_source('mmpretrain', build)
