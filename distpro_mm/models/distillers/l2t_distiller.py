from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.pathways import ByName, connect
from distpro.tracing import FeatureTap

from .tap_distiller import TapDistiller


class Regressors(ByName):
    """A module for each pair, called with the features of all."""

    def forward(self, features: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Features by pair to features by pair."""
        return {name: module(features[name]) for name, module in self.items()}


AFTER = (dict(module='auto', before_activation=False), )


@MODELS.register_module()
class L2TDistiller(TapDistiller):
    r"""What and where to transfer (L2T-ww; Jang et al., ICML 2019, section 2.1), with weights made by meta networks.

    For a teacher's map T and a student's map S of a pair (m, n), with r a 1x1 convolution,

    .. math:: \beta \sum_{(m, n)} \lambda^{m,n} \sum_c w^{m,n}_c\, \mathrm{mean}_{hw} (T^m_c - r(S^n)_c)^2

    averaged over the images. What: w, a softmax over the teacher's channels. Where: lambda, in [0, 6]. Both are made of the
    teacher's averaged map, image by image, by a linear layer each: the meta networks, which :class:`L2TTrainLoop` trains.
    Where sizes differ, the teacher's map is resized to the student's.

    Args:
        transmitters (str or Sequence): See :class:`TapDistiller`. Defaults to all that 'auto' finds, after the activation.
        receivers (str or Sequence): Likewise.
        connections (str or Sequence): Candidate pairs, see :func:`distpro.pathways.connect`. Defaults to 'all'.
        beta (float): Factor of the loss. Defaults to 0.5, the release's.
        **kwargs: Of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, transmitters: Union[str, Sequence] = AFTER, receivers: Union[str, Sequence] = AFTER,
                 connections: Union[str, Sequence] = 'all', beta: float = 0.5, **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        self.connections = connections
        self.beta = beta

    def build(self, transmitters: List[FeatureTap], receivers: List[FeatureTap]) -> None:
        """Build a convolution and two meta networks for each pair."""
        self.pairs = {f'{transmitter.name}>{receiver.name}': (transmitter, receiver)
                      for transmitter, receiver in connect(transmitters, receivers, self.connections)}
        widths = {name: (transmitter.shape[0], receiver.shape[0]) for name, (transmitter, receiver) in self.pairs.items()}
        self.regressors = Regressors({name: nn.Conv2d(own, wanted, 1) for name, (wanted, own) in widths.items()})
        self.what = ByName({name: nn.Linear(wanted, wanted) for name, (wanted, _) in widths.items()})
        self.where = ByName({name: nn.Linear(wanted, 1) for name, (wanted, _) in widths.items()})
        for name in self.pairs:  # the release's start: all channels alike, all pairs about 1
            nn.init.zeros_(self.what[name].weight)
            nn.init.zeros_(self.what[name].bias)
            nn.init.ones_(self.where[name].bias)

    def taps(self, side: str) -> List[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of the pairs."""
        return list(dict.fromkeys(pair[side == 'receiver'] for pair in self.pairs.values()))

    def meta_parameters(self) -> List[nn.Parameter]:
        """list[nn.Parameter]: Those of the meta networks."""
        return [*self.what.parameters(), *self.where.parameters()]

    def meta_weights(self, transmitted: Dict[str, Tensor]) -> Dict[str, Tuple[Tensor, Tensor]]:
        """What the meta networks make of the teacher's features.

        Args:
            transmitted (dict[str, Tensor]): The teacher's features by layer.

        Returns:
            dict[str, tuple[Tensor, Tensor]]: By pair, the weights of channels [B, C] and of the pair [B].
        """
        pooled = {name: feature.mean((2, 3)) for name, feature in transmitted.items()}
        return {name: (self.what[name](pooled[transmitter.name]).softmax(1),
                       F.relu6(self.where[name](pooled[transmitter.name]))[:, 0])
                for name, (transmitter, _) in self.pairs.items()}

    def by_pair(self, received: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """dict[str, Tensor]: The student's features by pair."""
        return {name: received[receiver.name] for name, (_, receiver) in self.pairs.items()}

    def transfer_loss(self, regressed: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                      weights: Dict[str, Tuple[Tensor, Tensor]]) -> Tensor:
        """The loss above.

        Args:
            regressed (dict[str, Tensor]): What the convolutions made of the student's features, by pair.
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            weights (dict[str, tuple[Tensor, Tensor]]): What :meth:`meta_weights` gave.

        Returns:
            Tensor: The loss, a scalar.
        """
        total = 0
        for name, (transmitter, _) in self.pairs.items():
            student, teacher = regressed[name], transmitted[transmitter.name]
            if teacher.shape[-2:] != student.shape[-2:]:
                teacher = F.interpolate(teacher, student.shape[-2:], mode='bilinear')
            of_channels, of_pair = weights[name]
            error = (student - teacher).square().mean((2, 3))
            total = total + ((error * of_channels).sum(1) * of_pair).mean()
        return self.beta * total

    def tap_losses(self, received: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                   data_samples: Optional[List]) -> Dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_transfer``, which never moves the meta networks."""
        weights = {name: tuple(weight.detach() for weight in pair)
                   for name, pair in self.meta_weights(transmitted).items()}
        regressed = self.regressors(self.by_pair(received))
        return dict(loss_transfer=self.transfer_loss(regressed, transmitted, weights))
