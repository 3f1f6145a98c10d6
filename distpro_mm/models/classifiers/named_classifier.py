from collections.abc import Callable

from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.errors import ArgumentError
from distpro.networks import build_network

from ...errors import ConfigError
from .module_classifier import ModuleClassifier


@MODELS.register_module()
class NamedClassifier(ModuleClassifier):
    """A network of timm, torchvision, torch.hub, Hugging Face or mmpretrain by its name, as a classifier.

    The names of the network's layers start with ``module.``. A teacher with published weights gets the images that they were
    trained with: :class:`TapDistill` converts the student's.

    Args:
        name (str): 'timm:NAME', 'torchvision:NAME', 'torchhub:REPO:NAME', 'hf:NAME' or 'mmpretrain:NAME', see
            :func:`distpro.build_network`.
        pretrained (bool): Load the weights that the library publishes. Defaults to False.
        num_classes (int, optional): Number of classes. Defaults to None: the library's.
        checkpoint (str, optional): A file with all weights. Defaults to None.
        options (dict, optional): Arguments of the library's network. Defaults to None.
        get_logits, loss, data_preprocessor: See :class:`ModuleClassifier`.

    Raises:
        ConfigError: If the name is unknown, the library is missing, or the weights do not fit.

    Example:
        >>> teacher = dict(type='mmrazor.NamedClassifier', name='timm:resnet50', pretrained=True)
    """

    def __init__(self, name: str, pretrained: bool = False, num_classes: int | None = None, checkpoint: str | None = None,
                 options: dict | None = None, get_logits: Callable[..., Tensor] | None = None, loss: nn.Module | None = None,
                 data_preprocessor: dict | None = None) -> None:
        self.recipe = dict(name=name, num_classes=num_classes, **(options or {}))  # builds the network without weights
        try:
            module = build_network(name, pretrained=pretrained, num_classes=num_classes, checkpoint=checkpoint,
                                   report=lambda line: print_log(line, 'current'), **(options or {}))
        except ArgumentError as error:
            raise ConfigError(f'NamedClassifier: {error}') from error
        super().__init__(module, get_logits, loss, data_preprocessor)
        self.is_init = pretrained or checkpoint is not None
