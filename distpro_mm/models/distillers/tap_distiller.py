import functools
import logging
from collections.abc import Iterator, Sequence

from mmengine.logging import print_log
from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor, nn

from distpro.errors import argument_prefix
from distpro.teachers import taps_of, teacher_taps
from distpro.tracing import FeatureReader, FeatureTap, Trace, resolve_taps

from ...errors import ConfigError
from ..clustering import check_clustered, cluster_layers, is_clustered, random_images


class TapDistiller(ConfigurableDistiller):
    """Base class of distillers that compare features read at taps. Probing both models finds the taps and their shapes.

    Recorders and losses of :class:`~mmrazor.models.ConfigurableDistiller` can be added. :class:`TapDistill` probes the
    models and calls :meth:`prepare` once. For every batch, it reads the features and calls :meth:`tap_losses`.

    Args:
        transmitters (str or Sequence): The teacher's layers: 'auto' (stem and stages, found by probing), or a list of names
            as in ``named_modules()`` or of dicts (see :func:`distpro.tracing.resolve_taps`). With
            ``before_activation=True`` in its dict, a layer that ends with an activation is read before it. Or
            ``dict(type='clustered', k=3, metric='cka', images=512)``: the medoids of k clusters of the teacher's blocks,
            after their activations, see :func:`.cluster_layers`. :func:`.build_trainer` clusters them on training images,
            and a model that is built in another way on random ones. Defaults to 'auto'.
        receivers (str or Sequence): The student's layers, in the same format. Defaults to 'auto'.
        **kwargs: Arguments of :class:`~mmrazor.models.ConfigurableDistiller`.

    Attributes:
        several_teachers (bool): Whether the class compares several teachers.
    """

    several_teachers = False

    def __init__(self, transmitters: str | Sequence = 'auto', receivers: str | Sequence = 'auto',
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.clustered = check_clustered(transmitters) if is_clustered(transmitters) else None
        self.layers = dict(transmitters=transmitters, receivers=receivers)

    def prepare(self, teacher: Trace | dict[str, Trace], student: Trace) -> None:
        """Find the layers in a traced forward of each model, and build the distiller's modules.

        Args:
            teacher (Trace or dict[str, Trace]): A traced forward of the teacher; of several by name.
            student (Trace): A traced forward of the student on the same images.

        Raises:
            ConfigError: If the layers do not fit the models. The message has the config key.
        """
        if self.clustered is not None:
            if isinstance(teacher, dict):
                raise ConfigError("model.distiller.transmitters=dict(type='clustered') clusters the layers of one teacher: "
                                  'give lists of layers by teacher')
            self.layers['transmitters'] = self._clusters_of_random_images(teacher)
        with argument_prefix('model.distiller.', ConfigError):
            self.build(teacher_taps(teacher if isinstance(teacher, dict) else {'': teacher}, self.layers['transmitters']),
                       resolve_taps(self.layers['receivers'], student, 'receivers', trained=True))

    def _clusters_of_random_images(self, teacher: Trace) -> list[dict]:
        print_log('model.distiller.transmitters: the layers are clustered on random images; build_trainer and the tools '
                  'cluster them on training images', 'current', logging.WARNING)
        forward = functools.partial(teacher.modules[''], random_images(teacher), mode='tensor')
        return cluster_layers(teacher, [forward], self.clustered['k'], self.clustered['metric']).layers

    def init_weights(self) -> None:
        """Initialise every part that has an ``init_cfg``, also inside modules that are not mmengine's."""
        super().init_weights()
        for part in _initialisable(self):
            if not getattr(part, 'is_init', False):
                part.init_weights()

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Build the distiller's modules for the taps, whose shapes are known."""
        raise NotImplementedError

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side that :meth:`tap_losses` currently needs."""
        raise NotImplementedError

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            received (dict[str, Tensor]): The student's features by layer.
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            data_samples (list, optional): Annotations of the batch.

        Returns:
            dict[str, Tensor]: Weighted losses. Each name must contain "loss".
        """
        raise NotImplementedError

    def transmitter_reader(self, teacher: nn.Module, name: str = '') -> FeatureReader:
        """FeatureReader: Reads the required features of a teacher, and stops its forward after the last of them."""
        more = self.teacher_recorders.recorders or self.deliveries.deliveries
        return FeatureReader(teacher, taps_of(name, self.taps('transmitter')), stop_early=not more)

    def receiver_reader(self, student: nn.Module, stop_early: bool = False) -> FeatureReader:
        """FeatureReader: Reads the required features of the student."""
        return FeatureReader(student, self.taps('receiver'), stop_early)


def _initialisable(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules inside ``module`` that have ``init_weights``."""
    for child in module.children():
        if hasattr(child, 'init_weights'):
            yield child
        else:
            yield from _initialisable(child)
