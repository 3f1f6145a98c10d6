
import torch
from mmrazor.registry import MODELS
from torch import Tensor

from distpro.random_state import without_side_effects
from distpro.searching import twice_differentiable, unrolled

from .tap_distill import TapDistill


@MODELS.register_module()
class L2T(TapDistill):
    """Learning what and where to transfer (L2T-ww; Jang et al., ICML 2019); trained by :class:`L2TTrainLoop`.

    Args:
        **kwargs: Arguments of :class:`TapDistill`; the distiller is an :class:`L2TDistiller`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._batch: tuple | None = None

    def _transmit(self, batch_inputs: Tensor, data_samples: list | None) -> dict[str, Tensor]:
        features = super()._transmit(batch_inputs, data_samples)
        self._batch = batch_inputs, data_samples, features
        return features

    def meta_gradient(self, lr: float, weight_decay: float, inner_steps: int) -> list[Tensor]:
        """The gradient of the meta networks on the last batch (the paper's algorithm 1).

        From the current student, ``inner_steps`` steps of gradient descent minimise the transfer loss, and one step the
        cross-entropy. The cross-entropy of the result is differentiated through all steps. The student, its buffers and the
        random states do not change.

        Args:
            lr (float): Learning rate of the steps.
            weight_decay (float): Weight decay of the steps.
            inner_steps (int): T of the paper, >= 1.

        Returns:
            list[Tensor]: A gradient for each parameter in the distiller's ``meta_parameters()``.

        Note:
            The steps are plain gradient descent, as in the paper. The release uses the optimiser's momentum.
        """
        batch_inputs, data_samples, transmitted = self._batch
        distiller = self.distiller
        weights = distiller.meta_weights(transmitted)
        parts = dict(student=self.student, regressors=distiller.regressors)

        def at(parameters: dict[str, Tensor], part: str, *args):
            """Call the student or the regressors with other parameters."""
            own = {name[len(part) + 1:]: p for name, p in parameters.items() if name.startswith(part)}
            return torch.func.functional_call(parts[part], own, *args)

        def transfer(parameters: dict[str, Tensor]) -> Tensor:
            with distiller.receiver_reader(self.student, stop_early=True) as reader:
                at(parameters, 'student', (batch_inputs, data_samples), dict(mode='tensor'))
            regressed = at(parameters, 'regressors', (distiller.by_pair(reader.features), ))
            return distiller.transfer_loss(regressed, transmitted, weights)

        def cross_entropy(parameters: dict[str, Tensor]) -> Tensor:
            return self.parse_losses(at(parameters, 'student', (batch_inputs, data_samples), dict(mode='loss')))[0]

        parameters = {f'{part}.{name}': p for part, module in parts.items()
                      for name, p in module.named_parameters() if p.requires_grad}
        with without_side_effects(self.student), torch.enable_grad(), twice_differentiable():
            ended = unrolled(parameters, [transfer] * inner_steps + [cross_entropy], lr, weight_decay)
            return list(torch.autograd.grad(cross_entropy(ended), distiller.meta_parameters()))
