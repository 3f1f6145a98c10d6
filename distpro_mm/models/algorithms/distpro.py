import copy
from typing import Callable, Dict, List, Optional

import torch
from mmrazor.registry import MODELS
from torch import Tensor

from ...pathways import probe_input
from ..distillers.cost import cost
from .tap_distill import TapDistill


@MODELS.register_module()
class DistPro(TapDistill):
    """Distils a student along weighted pathways; the model of DistPro's search and of its distillation runs.

    Args:
        **kwargs: Of :class:`TapDistill`; the distiller is a :class:`DistProDistiller`.

    Example:
        >>> model = dict(
        ...     _scope_='mmrazor', type='DistPro',
        ...     architecture=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher_ckpt='work_dirs/teacher/epoch_200.pth',
        ...     distiller=dict(type='DistProDistiller'))
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._keep = False
        self._kept: Optional[tuple] = None

    def _transmit(self, batch_inputs: Tensor, data_samples: Optional[List]) -> Dict[str, Tensor]:
        features = super()._transmit(batch_inputs, data_samples)
        if self._keep:  # the student runs next, with these random states
            self._kept = (batch_inputs, data_samples, _random_states(batch_inputs.device))
        return features

    def pathway_costs(self) -> Tensor:
        """What each pathway adds to a training step, in steps of the student alone (forward and backward) [N]."""
        student = copy.deepcopy(self.student)
        own = cost(lambda: student(probe_input(student, self.input_shape), mode='tensor'))
        return torch.tensor(self.distiller.costs()) / own

    def keep_batch(self, keep: bool) -> None:
        """Keep (or drop) what :meth:`kept_features` and the sensitivities need of the next training step."""
        self._keep, self._kept = keep, None
        self.distiller.catch_sensitivities(keep)

    def kept_features(self, student: Callable) -> Dict[str, Tensor]:
        """The student's features of the kept batch, computed anew up to the deepest receiving layer.

        The same function of the student's parameters as in the training step: same images, batch statistics and the
        random numbers of then.

        Args:
            student (Callable): The student or a stand-in for it that runs its modules with other parameters.

        Returns:
            dict[str, Tensor]: Features by layer, each [B, C, H, W].
        """
        batch_inputs, data_samples, states = self._kept
        _set_random_states(states, batch_inputs.device)
        with self.distiller.receiver_reader(self.student, stop_early=True) as reader:
            student(batch_inputs, data_samples, mode='tensor')
        return reader.features

    def held_out_loss(self, data: dict) -> Tensor:
        """The student's own loss on a held-out batch, in training mode.

        Args:
            data (dict): A batch as a dataloader gives it.

        Returns:
            Tensor: The loss, a scalar with a graph.
        """
        data = self.data_preprocessor(data, False)
        losses = self.student(**data, mode='loss')
        return self.parse_losses(losses)[0]


def _random_states(device: torch.device) -> tuple:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == 'cuda' else None


def _set_random_states(states: tuple, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
