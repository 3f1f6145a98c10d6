from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import ModuleList
from mmrazor.registry import MODELS
from torch import Tensor

from distpro.pathways import connect
from distpro.tracing import FeatureTap, Trace, resolve_taps

from ...config_types import build
from ..connectors import ABFConnector
from .tap_distiller import TapDistiller

POOLED = 'pooled'


@MODELS.register_module()
class ReviewKDDistiller(TapDistiller):
    """ReviewKD (Chen et al., CVPR 2021): every student map, fused with all deeper maps, is compared with a teacher's map.

    From deep to shallow, each pair's student map is fused with the fused deeper maps (:class:`ABFConnector`) and compared
    with the teacher's map. As in the release, the deepest level is the pair of pooled maps after the last activation; the
    other teacher's maps are taken before the activation, the student's after it.

    Args:
        transmitters (str or Sequence): See :class:`TapDistiller`. Defaults to 'auto'.
        receivers (str or Sequence): See :class:`TapDistiller`. Defaults to all layers of 'auto', after the activation.
        connections (str or Sequence): Pairs of layers, from shallow to deep, see :func:`distpro.pathways.connect`.
            Defaults to the last three layers of both networks.
        loss (dict): Loss of a level; its weight is ReviewKD's only hand-tuned number. Defaults to ``dict(type='HCLLoss')``.
        max_mid_channels (int): Maximum of the common width, which is the width of the student's pooled map. Defaults to 512.
        pooled (str, optional): Layer of both networks whose map is pooled. As in the release, 'backbone' is the input of the
            classifier. Defaults to None: the deepest compared layers.
        **kwargs: Arguments of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, transmitters: str | Sequence = (dict(module='auto', before_activation=True), ),
                 receivers: str | Sequence = 'auto',
                 connections: str | Sequence = ((-3, -3), (-2, -2), (-1, -1)),
                 loss: dict = dict(type='HCLLoss'), max_mid_channels: int = 512, pooled: str | None = None,
                 **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        self.connections = connections
        self.level_loss = build(loss, 'model.distiller.loss')
        self.max_mid_channels, self.pooled = max_mid_channels, pooled

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the layers and those of the pooled maps, and build the fusions."""
        super().prepare(teacher, student)
        self.last = [
            resolve_taps([dict(module=self.pooled or tap.layer, name=POOLED)], traced,
                         f'model.distiller.{key}')[0]
            for tap, traced, key in zip(self.pairs[-1], (teacher, student), ('transmitters', 'receivers'))]
        widths = [(receiver.shape[0], transmitter.shape[0]) for transmitter, receiver in [*self.pairs, self.last]]
        mid = min(self.max_mid_channels, widths[-1][0])
        # mmengine's container, because torch's does not apply the init_cfg of its modules.
        self.fusions = ModuleList(ABFConnector(own, mid, wanted, fuse=True) for own, wanted in widths[:-1])
        self.fusions.append(ABFConnector(widths[-1][0], mid, widths[-1][1], fuse=False))  # of the pooled maps

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Pair the layers."""
        self.pairs = connect(transmitters, receivers, self.connections)

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side."""
        index = int(side == 'receiver')
        return list(dict.fromkeys([pair[index] for pair in self.pairs] + [self.last[index]]))

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: The loss of each level, by the student's layer, from deep to shallow."""
        levels = [(receiver.name, received[receiver.name], transmitted[transmitter.name])
                  for transmitter, receiver in self.pairs]
        levels.append((POOLED, *(F.adaptive_avg_pool2d(features[POOLED], 1) for features in (received, transmitted))))
        losses, deeper = {}, None
        for (name, feature, target), fusion in zip(reversed(levels), reversed(self.fusions)):
            compared, deeper = fusion(feature, deeper, target.shape[-2:])
            losses[f'loss_{name}'] = self.level_loss(compared, target)
        return losses
