import re
from collections.abc import Sequence

from mmengine.model import Sequential
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import check_choice
from distpro.pathways import ByName, connect
from distpro.pathways.maps import adaptive_average
from distpro.tracing import FeatureTap

from ...config_types import checked
from ...errors import ConfigError
from ..losses.annotations import annotations_for
from .tap_distiller import TapDistiller

COMPARE_AT = ('own', 'smaller')
CHANNELS = re.compile(r'(student|teacher)_channels(?:/(\d+))?')


@MODELS.register_module()
class PairDistiller(TapDistiller):
    """Compares pairs of layers of teacher and student, each with its own loss and connectors.

    Most feature distillations can be written in this form, for any two networks. In the configs of connectors and loss,
    ``'student_channels'`` and ``'teacher_channels'`` are placeholders for the channels of the pair, which are found by
    probing. ``'teacher_channels/2'`` is half of them.

    Args:
        loss (dict): Loss of a pair, called with the student's and the teacher's feature, and with ``gt_labels`` or
            ``data_samples`` if its forward has these arguments.
        connections (str or Sequence): Pairs of layers to compare, see :func:`distpro.pathways.connect`. Defaults to
            'nearest_depth'.
        student_connector (dict or list[dict], optional): Applied to the student's feature; a list is applied in order.
            Defaults to None: the feature is not changed.
        teacher_connector (dict or list[dict], optional): Applied to the teacher's feature. Defaults to None.
        weights (Sequence[float], optional): Factor of each pair. Defaults to None: 1 each.
        compare_at (str): 'own': the maps keep their sizes; 'smaller': both are averaged to the smaller height and width,
            before the connectors. Defaults to 'own'.
        **kwargs: ``transmitters`` and ``receivers`` of :class:`TapDistiller`, and arguments of mmrazor's
            :class:`~mmrazor.models.ConfigurableDistiller`.

    Raises:
        ConfigError: If an argument is invalid. The message has its config key.

    Example:
        >>> distiller = dict(  # FitNet
        ...     type='PairDistiller', connections=[(2, 2)],
        ...     student_connector=dict(
        ...         type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels'),
        ...     loss=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=100))
    """

    def __init__(self, loss: dict, connections: str | Sequence = 'nearest_depth',
                 student_connector: None | dict | list[dict] = None,
                 teacher_connector: None | dict | list[dict] = None, weights: Sequence[float] | None = None,
                 compare_at: str = 'own', **kwargs) -> None:
        super().__init__(**kwargs)
        check_choice('model.distiller.compare_at', compare_at, COMPARE_AT, ConfigError)
        self.loss_cfg, self.connections = loss, connections
        self.connector_cfgs = dict(student=student_connector, teacher=teacher_connector)
        self.weights, self.compare_at = weights, compare_at

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Pair the layers, and build connectors and a loss for each pair."""
        self.pairs = {f'{transmitter.name}>{receiver.name}': (transmitter, receiver)
                      for transmitter, receiver in connect(transmitters, receivers, self.connections)}
        if self.weights is not None and len(self.weights) != len(self.pairs):
            raise ConfigError(f'model.distiller.weights has {len(self.weights)} numbers for the {len(self.pairs)} pairs '
                              f'{list(self.pairs)}')
        self.factors = dict(zip(self.pairs, self.weights or [1.0] * len(self.pairs)))
        channels = {name: dict(student=receiver.shape[0], teacher=transmitter.shape[0])
                    for name, (transmitter, receiver) in self.pairs.items()}
        self.pair_losses = ByName({
            name: _built(self.loss_cfg, found, 'model.distiller.loss') for name, found in channels.items()})
        # mmengine's containers, because torch's do not apply the init_cfg of the connectors.
        self.pair_connectors = nn.ModuleDict({
            side: ByName({
                name: _connector(cfg, found, f'model.distiller.{side}_connector') for name, found in channels.items()})
            for side, cfg in self.connector_cfgs.items()})

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of the pairs."""
        return list(dict.fromkeys(pair[side == 'receiver'] for pair in self.pairs.values()))

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_<transmitter>><receiver>`` of each pair, weighted."""
        losses = {}
        for name, (transmitter, receiver) in self.pairs.items():
            # mmrazor's losses view maps as matrices, which maps in channels_last do not allow.
            features = received[receiver.name].contiguous(), transmitted[transmitter.name].contiguous()
            if self.compare_at == 'smaller':
                features = averaged_to_smaller(*features)
            student, teacher = (self.pair_connectors[side][name](feature)
                                for side, feature in zip(('student', 'teacher'), features))
            wanted = annotations_for(self.pair_losses[name], data_samples, 'model.distiller.loss')
            losses[f'loss_{name}'] = self.factors[name] * self.pair_losses[name](student, teacher, **wanted)
        return losses


def filled_in(cfg: dict, channels: dict[str, int]) -> dict:
    """Replace the placeholders for a pair's channels in a config.

    Args:
        cfg (dict): The config.
        channels (dict[str, int]): Channels of 'student' and 'teacher'.

    Returns:
        dict: The config with numbers.
    """

    def number(value):
        match = CHANNELS.fullmatch(value) if isinstance(value, str) else None
        return channels[match[1]] // int(match[2] or 1) if match else value

    return {key: filled_in(value, channels) if isinstance(value, dict) else number(value) for key, value in cfg.items()}


def _built(cfg: dict, channels: dict[str, int], key: str) -> nn.Module:
    return MODELS.build(filled_in(checked(cfg, key), channels))


def _connector(cfg: None | dict | list[dict], channels: dict[str, int], key: str) -> nn.Module:
    if cfg is None:
        return nn.Identity()
    if isinstance(cfg, (list, tuple)):
        return Sequential(*[_built(part, channels, key) for part in cfg])
    return _built(cfg, channels, key)


def averaged_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [B, C, H, W] averaged to the smaller height and width of the two."""
    size = tuple(map(min, student.shape[-2:], teacher.shape[-2:]))
    return tuple(feature if feature.shape[-2:] == size else adaptive_average(feature, size)
                 for feature in (student, teacher))
