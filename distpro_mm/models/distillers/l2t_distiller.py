from collections.abc import Sequence

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.pathways import ByName, connect
from distpro.tracing import FeatureTap

from .tap_distiller import TapDistiller


class Regressors(ByName):
    """One module per pair, applied to the features by pair."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply each module to the feature of its pair."""
        return {name: module(features[name]) for name, module in self.items()}


@MODELS.register_module()
class L2TDistiller(TapDistiller):
    r"""Learning what and where to transfer (L2T-ww; Jang et al., ICML 2019, section 2.1); meta networks predict the weights.

    For a teacher's map T and a student's map S of a pair (m, n), with r a 1x1 convolution,

    .. math:: \beta \sum_{(m, n)} \lambda^{m,n} \sum_c w^{m,n}_c\, \mathrm{mean}_{hw} (T^m_c - r(S^n)_c)^2

    averaged over the images. What: w, a softmax over the teacher's channels. Where: lambda, in [0, 6]. A linear layer for
    each, a meta network, predicts them for every image from the teacher's averaged map. :class:`L2TTrainLoop` trains the
    meta networks. If sizes differ, the teacher's map is resized to the student's.

    Args:
        transmitters (str or Sequence): See :class:`TapDistiller`. Defaults to all layers of 'auto', after the activation.
        receivers (str or Sequence): See :class:`TapDistiller`. Defaults to all layers of 'auto', after the activation.
        connections (str or Sequence): Candidate pairs, see :func:`distpro.pathways.connect`. Defaults to 'all'.
        beta (float): Factor of the loss. Defaults to 0.5, the release's.
        **kwargs: Arguments of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, transmitters: str | Sequence = 'auto', receivers: str | Sequence = 'auto',
                 connections: str | Sequence = 'all', beta: float = 0.5, **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        self.connections = connections
        self.beta = beta

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Build a convolution and two meta networks for each pair."""
        self.pairs = {f'{transmitter.name}>{receiver.name}': (transmitter, receiver)
                      for transmitter, receiver in connect(transmitters, receivers, self.connections)}
        widths = {name: (transmitter.shape[0], receiver.shape[0]) for name, (transmitter, receiver) in self.pairs.items()}
        self.regressors = Regressors({name: nn.Conv2d(own, wanted, 1) for name, (wanted, own) in widths.items()})
        self.what = ByName({name: nn.Linear(wanted, wanted) for name, (wanted, _) in widths.items()})
        self.where = ByName({name: nn.Linear(wanted, 1) for name, (wanted, _) in widths.items()})
        for name in self.pairs:  # the release's initialisation: equal channels, all pairs about 1
            nn.init.zeros_(self.what[name].weight)
            nn.init.zeros_(self.what[name].bias)
            nn.init.ones_(self.where[name].bias)

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of the pairs."""
        return list(dict.fromkeys(pair[side == 'receiver'] for pair in self.pairs.values()))

    def meta_parameters(self) -> list[nn.Parameter]:
        """list[nn.Parameter]: Parameters of the meta networks."""
        return [*self.what.parameters(), *self.where.parameters()]

    def meta_weights(self, transmitted: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Predict the weights of channels and pairs from the teacher's features.

        Args:
            transmitted (dict[str, Tensor]): The teacher's features by layer.

        Returns:
            dict[str, tuple[Tensor, Tensor]]: By pair, the weights of channels [B, C] and of the pair [B].
        """
        pooled = {name: feature.mean((2, 3)) for name, feature in transmitted.items()}
        return {name: (self.what[name](pooled[transmitter.name]).softmax(1),
                       F.relu6(self.where[name](pooled[transmitter.name]))[:, 0])
                for name, (transmitter, _) in self.pairs.items()}

    def by_pair(self, received: dict[str, Tensor]) -> dict[str, Tensor]:
        """dict[str, Tensor]: The student's features by pair."""
        return {name: received[receiver.name] for name, (_, receiver) in self.pairs.items()}

    def transfer_loss(self, regressed: dict[str, Tensor], transmitted: dict[str, Tensor],
                      weights: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Compute the loss of :class:`L2TDistiller`.

        Args:
            regressed (dict[str, Tensor]): The student's features after the 1x1 convolutions, by pair.
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            weights (dict[str, tuple[Tensor, Tensor]]): The result of :meth:`meta_weights`.

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

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_transfer``, without gradient for the meta networks."""
        weights = {name: tuple(weight.detach() for weight in pair)
                   for name, pair in self.meta_weights(transmitted).items()}
        regressed = self.regressors(self.by_pair(received))
        return dict(loss_transfer=self.transfer_loss(regressed, transmitted, weights))
