"""Networks of Hugging Face's transformers."""
import os
from typing import Any

from torch import nn

from ..errors import ArgumentError, first_line
from .input import ModelInput, pair
from .library import import_library, unknown

INSTALL = "pip install 'distpro_mm[hf]'"


def build(name: str, source: str, pretrained: bool, num_classes: int | None, options: dict[str, Any]
          ) -> tuple[nn.Module, ModelInput | None]:
    """Build an image classifier of transformers; see :func:`distpro.networks.build_network`.

    ``name`` is a folder that ``save_pretrained`` wrote, a name of the hub, or a kind of network ('vit', 'convnext'), whose
    configuration ``options`` change. ``num_classes=0``, or a network for which transformers has no classifier, gives the
    network without one.
    """
    transformers = import_library('transformers', INSTALL, source)
    kinds = transformers.CONFIG_MAPPING
    labels = {} if not num_classes else dict(num_labels=num_classes)
    if name in kinds and not os.path.isdir(name):
        if pretrained:
            raise ArgumentError(f"{source}: '{name}' is a kind of network without weights: give a folder, or a name of "
                                'the hub')
        config = transformers.AutoConfig.for_model(name, **options, **labels)
    else:
        if os.path.sep in name and name[0] in f'.~{os.path.sep}' and not os.path.isdir(os.path.expanduser(name)):
            raise ArgumentError(f"{source}: there is no folder '{name}'")
        name = os.path.expanduser(name)
        try:
            config = transformers.AutoConfig.from_pretrained(name, **options, **labels)
        except (OSError, ValueError) as error:
            if '/' in name:
                raise ArgumentError(f'{source} cannot be read ({first_line(error)})') from error
            raise unknown(source, name, kinds.keys(), f'transformers {transformers.__version__} (a folder or a name of the '
                          'hub does too)') from error
    config.architectures = config.architectures or []  # of a kind with several classifiers, transformers expects a list
    classifiers = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    headless = num_classes == 0 or type(config) not in classifiers or pretrained and num_classes is None and not any(
        'Classification' in kind for kind in config.architectures)
    auto = transformers.AutoModel if headless else transformers.AutoModelForImageClassification
    if not pretrained:
        return auto.from_config(config), None
    try:
        network = auto.from_pretrained(name, config=config, ignore_mismatched_sizes=num_classes is not None)
    except OSError as error:
        raise ArgumentError(f'{source}: the weights cannot be read ({first_line(error)})') from error
    return network, read_input(transformers, name)


def read_input(transformers: Any, name: str) -> ModelInput | None:
    """The images of a folder or a name of the hub, from its image processor; None if it has none."""
    try:
        config, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        return None
    normalises = config.get('do_normalize', True)
    size = config.get('crop_size') if config.get('do_center_crop') else None
    size = config.get('size') if size is None else size
    if isinstance(size, dict):
        size = (size['height'], size['width']) if 'height' in size else size.get('shortest_edge')
    mean, std = ((tuple(config[key]) if normalises and config.get(key) else None) for key in ('image_mean', 'image_std'))
    return ModelInput(mean, std, None if size is None else pair(size))
