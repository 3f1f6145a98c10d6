import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as functional
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.pathways.names import split_teacher
from distpro.random_state import random_states, set_random_states
from distpro.searching import images_of_a_share
from distpro.tracing import FeatureReader

from ...errors import ConfigError
from ..losses.annotations import has_several_labels
from ..losses.one_label import ONE_LABEL, is_multi_label
from .tap_distill import TapDistill


@MODELS.register_module()
class DistPro(TapDistill):
    """Distils a student along weighted pathways; the model of DistPro's search and distillation.

    Args:
        **kwargs: Arguments of :class:`TapDistill`; the distiller is a :class:`DistProDistiller`.

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
        self._cache_batch = False
        self._cached:  tuple | None = None

    def _transmit(self, batch_inputs: Tensor, data_samples: list | None) -> dict[str, Tensor]:
        features = super()._transmit(batch_inputs, data_samples)
        if self._cache_batch:  # the student runs next, with these random states
            self._cached = (batch_inputs, data_samples, random_states(batch_inputs.device))
        return features

    def loss(self, batch_inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """As in :class:`TapDistill`; where a process has a weight of the cross-entropy, the student's own losses have it."""
        losses, weight = super().loss(batch_inputs, data_samples), self.distiller.grid.scheduled_value('cross_entropy')
        if isinstance(weight, float):
            return losses
        return {name: _times(weight, value) if name.startswith('student.') and 'loss' in name else value
                for name, value in losses.items()}

    def cache_batch(self, keep: bool) -> None:
        """Cache (or drop) the next training batch for :meth:`cached_features`, and record the sensitivities."""
        self._cache_batch, self._cached = keep, None
        self.distiller.grid.record_sensitivities(keep)

    def cached_features(self, student: Callable) -> dict[str, Tensor]:
        """The student's features of the cached batch, recomputed up to the deepest receiving layer.

        The features are the same function of the student's parameters as in the training step: with the same images, batch
        statistics and random numbers.

        Args:
            student (Callable): The student, or a function that runs its modules with other parameters.

        Returns:
            dict[str, Tensor]: Features by layer, each [B, C, H, W].
        """
        batch_inputs, data_samples, states = self._cached
        set_random_states(states, batch_inputs.device)
        with self.distiller.receiver_reader(self.student, stop_early=True) as reader:
            student(batch_inputs, data_samples, mode='tensor')
        return reader.features

    def training_loss(self, data: dict, parameters: dict[str, Tensor], weights: Tensor,
                      share: float = 1.0) -> Tensor:
        """The loss of a training step, as a function of parameters and weights.

        Args:
            data (dict): A batch of a dataloader.
            parameters (dict[str, Tensor]): Parameters by name, in place of the model's own.
            weights (Tensor): The pathways' weights [N].
            share (float): Share of the batch's images, in (0, 1], that it is the loss of; see
                :func:`~distpro.searching.images_of_a_share`. Defaults to 1.

        Returns:
            Tensor: The loss, a scalar with a graph to parameters and weights.
        """
        data = self.data_preprocessor(data, True)
        count = images_of_a_share(len(data['inputs']), share)
        data = dict(data, inputs=data['inputs'][:count], data_samples=data['data_samples'][:count])
        with self.distiller.grid.using_weights(weights):
            losses = torch.func.functional_call(self, parameters, kwargs=dict(data, mode='loss'), args=())
        return self.parse_losses(losses)[0]

    def held_out_loss(self, data: dict, teacher_kl_share: float = 0.0) -> Tensor:
        """The objective of a search: the student's own loss on a held-out batch, or its divergence from the teacher.

        Args:
            data (dict): A batch of a dataloader.
            teacher_kl_share (float): Weight, in [0, 1], of the Kullback-Leibler divergence from the teacher's class
                probabilities, of several teachers the mean; the student's own loss has the weight
                ``1 - teacher_kl_share``. Needs pathways between logits if not 0. Defaults to 0.

        Returns:
            Tensor: The loss, a scalar with a graph.

        Raises:
            ConfigError: If ``teacher_kl_share`` is not 0 and images have several labels.
        """
        # Preprocessed as in training, which pads annotations to the images' size, but without augmentations that mix images.
        with _without_batch_augments(self.data_preprocessor):
            data = self.data_preprocessor(data, True)
        if not teacher_kl_share:
            return self.parse_losses(self.student(**data, mode='loss'))[0]
        networks = self.student, *self.teachers.values()
        if any(map(is_multi_label, networks)) or any(map(has_several_labels, data['data_samples'])):
            raise ConfigError(f'train_cfg.teacher_kl_share={teacher_kl_share}: {ONE_LABEL}; set it to 0')
        taps = self.distiller.grid.logit_taps
        with FeatureReader(self.student, taps[-1:]) as student:
            own = self.parse_losses(self.student(**data, mode='loss'))[0]
        log_q, divergences = student.features['logits'].log_softmax(1), []
        for tap in taps[:-1]:
            network = self.teachers[split_teacher(tap.name)[0]]
            with torch.no_grad(), FeatureReader(network, [tap]) as teacher:
                network(data['inputs'], data['data_samples'], mode='tensor')
            log_p = teacher.features[tap.name].log_softmax(1)
            divergences.append(functional.kl_div(log_q, log_p, reduction='batchmean', log_target=True))
        return torch.lerp(own, torch.stack(divergences).mean(), teacher_kl_share)


def _times(weight: Tensor, losses: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [weight * loss for loss in losses] if isinstance(losses, (list, tuple)) else weight * losses


@contextlib.contextmanager
def _without_batch_augments(preprocessor: nn.Module) -> Iterator[None]:
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        yield
        return
    preprocessor.batch_augments = None
    try:
        yield
    finally:
        preprocessor.batch_augments = augments
