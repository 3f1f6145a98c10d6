from typing import Dict, List, Optional, Sequence, Union

import torch.nn.functional as F
from mmengine.model import ModuleList
from mmrazor.registry import MODELS
from torch import Tensor

from ...pathways import FeatureTap, Trace, connect, resolve_taps
from ..connectors import ABFConnector
from .tap_distiller import TapDistiller

POOLED = 'pooled'


@MODELS.register_module()
class ReviewKDDistiller(TapDistiller):
    """ReviewKD (Chen et al., CVPR 2021): every student map, joined with all deeper ones, is compared with a teacher's map.

    From deep to shallow, each pair's student map is fused with what came from deeper (:class:`ABFConnector`), and compared
    with the teacher's. As in the release, the deepest level is the pair of the pooled maps after the last activation, the
    other teacher maps are taken before their activation and the student's after it.

    Args:
        transmitters (str or Sequence): See :class:`TapDistiller`. Defaults to 'auto'.
        receivers (str or Sequence): Likewise. Defaults to all that 'auto' finds, after the activation.
        connections (str or Sequence): Pairs of layers, from shallow to deep, see :func:`distpro_mm.pathways.connect`.
            Defaults to the last three of both.
        loss (dict): Loss of a level; its weight is ReviewKD's one hand-tuned number. Defaults to ``dict(type='HCLLoss')``.
        max_mid_channels (int): Bound of the common width, which is that of the deepest student map. Defaults to 512.
        **kwargs: Of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, transmitters: Union[str, Sequence] = 'auto',
                 receivers: Union[str, Sequence] = (dict(module='auto', before_activation=False), ),
                 connections: Union[str, Sequence] = ((-3, -3), (-2, -2), (-1, -1)),
                 loss: dict = dict(type='HCLLoss'), max_mid_channels: int = 512, **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        self.connections = connections
        self.level_loss = MODELS.build(dict(loss))
        self.max_mid_channels = max_mid_channels

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the layers, and the ends of both deepest ones, whose pooled maps are one more level."""
        super().prepare(teacher, student)
        deepest = self.pairs[-1]
        self.last = [
            resolve_taps([dict(module=tap.layer, before_activation=False, name=POOLED)], traced, f'model.distiller.{key}')[0]
            for tap, traced, key in zip(deepest, (teacher, student), ('transmitters', 'receivers'))]

    def build(self, transmitters: List[FeatureTap], receivers: List[FeatureTap]) -> None:
        """Build a fusion for each pair, and one for the pooled maps."""
        self.pairs = connect(transmitters, receivers, self.connections)
        widths = [(receiver.shape[0], transmitter.shape[0]) for transmitter, receiver in self.pairs]
        mid = min(self.max_mid_channels, widths[-1][0])
        # mmengine's container, because torch's keeps what init_cfg says from its parts.
        self.fusions = ModuleList(ABFConnector(own, mid, wanted, fuse=True) for own, wanted in widths)
        self.fusions.append(ABFConnector(widths[-1][0], mid, widths[-1][1], fuse=False))  # of the pooled maps

    def taps(self, side: str) -> List[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side."""
        index = int(side == 'receiver')
        return list(dict.fromkeys([pair[index] for pair in self.pairs] + [self.last[index]]))

    def tap_losses(self, received: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                   data_samples: Optional[List]) -> Dict[str, Tensor]:
        """dict[str, Tensor]: The loss of each level, by the student's layer, from deep to shallow."""
        levels = [(receiver.name, received[receiver.name], transmitted[transmitter.name])
                  for transmitter, receiver in self.pairs]
        levels.append((POOLED, *(F.adaptive_avg_pool2d(features[POOLED], 1) for features in (received, transmitted))))
        losses, deeper = {}, None
        for (name, feature, target), fusion in zip(reversed(levels), reversed(self.fusions)):
            compared, deeper = fusion(feature, deeper, target.shape[-2:])
            losses[f'loss_{name}'] = self.level_loss(compared, target)
        return losses
