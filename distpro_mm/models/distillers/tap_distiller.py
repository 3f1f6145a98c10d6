from typing import Dict, Iterator, List, Optional, Sequence, Union

from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor, nn

from distpro.errors import argument_prefix
from distpro.tracing import FeatureReader, FeatureTap, Trace, resolve_taps

from ...errors import ConfigError


class TapDistiller(ConfigurableDistiller):
    """Base of the distillers that compare features read at taps, which are found and measured by probing both models.

    What :class:`~mmrazor.models.ConfigurableDistiller` offers (recorders, losses of one's own) works beside the taps. It
    is run by :class:`TapDistill`, which probes the models, calls :meth:`prepare` once, and then for every batch reads the
    features and asks for :meth:`tap_losses`.

    Args:
        transmitters (str or Sequence): The teacher's layers: 'auto' (stem and stages, found by probing), or a list of
            names as in ``named_modules()`` or of dicts (see :func:`distpro.tracing.resolve_taps`). Features are
            taken before the activation that ends the layer, if one does. Defaults to 'auto'.
        receivers (str or Sequence): The student's layers, likewise. Defaults to 'auto'.
        **kwargs: Of :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, transmitters: Union[str, Sequence] = 'auto', receivers: Union[str, Sequence] = 'auto',
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.layers = dict(transmitters=transmitters, receivers=receivers)

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the layers in one traced forward of each model and build what compares them.

        Args:
            teacher (Trace): A traced forward of the teacher.
            student (Trace): A traced forward of the student on the same images.

        Raises:
            ConfigError: If the layers do not fit the models; names the config key.
        """
        with argument_prefix('model.distiller.', ConfigError):
            self.build(resolve_taps(self.layers['transmitters'], teacher, 'transmitters'),
                       resolve_taps(self.layers['receivers'], student, 'receivers', trained=True))

    def init_weights(self) -> None:
        """Initialise every part that has an ``init_cfg``, also those inside modules that are not of mmengine."""
        super().init_weights()
        for part in _initialisable(self):
            if not getattr(part, 'is_init', False):
                part.init_weights()

    def build(self, transmitters: List[FeatureTap], receivers: List[FeatureTap]) -> None:
        """Build what compares the layers; their shapes are known."""
        raise NotImplementedError

    def taps(self, side: str) -> List[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side that :meth:`tap_losses` needs now."""
        raise NotImplementedError

    def tap_losses(self, received: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                   data_samples: Optional[List]) -> Dict[str, Tensor]:
        """Losses of a batch.

        Args:
            received (dict[str, Tensor]): The student's features by layer.
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            data_samples (list, optional): Annotations of the batch.

        Returns:
            dict[str, Tensor]: Losses, weighted, by names that contain "loss".
        """
        raise NotImplementedError

    def transmitter_reader(self, teacher: nn.Module) -> FeatureReader:
        """FeatureReader: Reads the teacher's features that are needed, and ends its forward where nothing needs more."""
        more = self.teacher_recorders.recorders or self.deliveries.deliveries
        return FeatureReader(teacher, self.taps('transmitter'), stop_early=not more)

    def receiver_reader(self, student: nn.Module, stop_early: bool = False) -> FeatureReader:
        """FeatureReader: Reads the student's features that are needed."""
        return FeatureReader(student, self.taps('receiver'), stop_early)


def _initialisable(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside ``module`` that initialise themselves."""
    for child in module.children():
        if hasattr(child, 'init_weights'):
            yield child
        else:
            yield from _initialisable(child)
