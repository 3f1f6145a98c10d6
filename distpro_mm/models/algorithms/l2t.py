from typing import Dict, List, Optional

import torch
from mmrazor.registry import MODELS
from torch import Tensor

from distpro.random_state import untouched
from distpro.searching import twice_differentiable, unrolled

from .tap_distill import TapDistill


@MODELS.register_module()
class L2T(TapDistill):
    """What and where to transfer (L2T-ww; Jang et al., ICML 2019): the model that :class:`L2TTrainLoop` trains.

    Args:
        **kwargs: Of :class:`TapDistill`; the distiller is an :class:`L2TDistiller`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._batch: Optional[tuple] = None

    def _transmit(self, batch_inputs: Tensor, data_samples: Optional[List]) -> Dict[str, Tensor]:
        features = super()._transmit(batch_inputs, data_samples)
        self._batch = batch_inputs, data_samples, features
        return features

    def meta_gradient(self, lr: float, weight_decay: float, inner_steps: int) -> List[Tensor]:
        """The gradient of the meta networks on the last batch (the paper's algorithm 1).

        From the present student: ``inner_steps`` steps of gradient descent on the transfer loss alone, one on the
        cross-entropy, and then the cross-entropy of where that ends, differentiated through all steps. The student, its
        buffers and the random states are left as they are.

        Args:
            lr (float): Learning rate of the steps.
            weight_decay (float): Their weight decay.
            inner_steps (int): T of the paper, >= 1.

        Returns:
            list[Tensor]: A gradient for each of the distiller's ``meta_parameters()``.

        Note:
            The steps are plain gradient descent, as in the paper; the release's have the optimiser's momentum.
        """
        batch_inputs, data_samples, transmitted = self._batch
        distiller = self.distiller
        weights = distiller.meta_weights(transmitted)
        parts = dict(student=self.student, regressors=distiller.regressors)

        def at(parameters: Dict[str, Tensor], part: str, *args):
            """Call the student or the regressors with other parameters."""
            own = {name[len(part) + 1:]: p for name, p in parameters.items() if name.startswith(part)}
            return torch.func.functional_call(parts[part], own, *args)

        def transfer(parameters: Dict[str, Tensor]) -> Tensor:
            with distiller.receiver_reader(self.student, stop_early=True) as reader:
                at(parameters, 'student', (batch_inputs, data_samples), dict(mode='tensor'))
            regressed = at(parameters, 'regressors', (distiller.by_pair(reader.features), ))
            return distiller.transfer_loss(regressed, transmitted, weights)

        def cross_entropy(parameters: Dict[str, Tensor]) -> Tensor:
            return self.parse_losses(at(parameters, 'student', (batch_inputs, data_samples), dict(mode='loss')))[0]

        parameters = {f'{part}.{name}': p for part, module in parts.items()
                      for name, p in module.named_parameters() if p.requires_grad}
        with untouched(self.student), torch.enable_grad(), twice_differentiable():
            ended = unrolled(parameters, [transfer] * inner_steps + [cross_entropy], lr, weight_decay)
            return list(torch.autograd.grad(cross_entropy(ended), distiller.meta_parameters()))
