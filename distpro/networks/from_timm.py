"""Networks of timm."""
from typing import Any

from torch import nn

from .input import ModelInput
from .library import import_library, unknown

INSTALL = "pip install 'distpro_mm[timm]'"


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build a network of timm; see :func:`distpro.networks.build_network`."""
    timm = import_library('timm', INSTALL, source)
    if not timm.is_model(name):
        raise unknown(source, name, timm.list_models(), f'timm {timm.__version__}')
    if num_classes is not None:
        options = dict(options, num_classes=num_classes)
    network = timm.create_model(name, pretrained=pretrained, **options)
    return network, read_input(network) if pretrained else None


def read_input(network: nn.Module) -> ModelInput:
    """The images of the weights that timm publishes for a network, of which the network has the description."""
    data = import_library('timm.data', INSTALL, 'model_input')
    config = data.resolve_model_data_config(network)
    return ModelInput(tuple(config['mean']), tuple(config['std']), tuple(config['input_size'][1:]))
