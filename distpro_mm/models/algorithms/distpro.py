import collections
import copy
from typing import Callable, Dict, List, Optional, Sequence

import torch
from mmengine.logging import print_log
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import ConfigError
from ...pathways import Trace, in_place_off, probe_input, trace
from ..checkpoints import load_whole
from ..distillers.cost import cost


@MODELS.register_module()
class DistPro(SingleTeacherDistill):
    """Distils a student along weighted pathways; the model of DistPro's search and of its distillation runs.

    The teacher runs once a batch, without its loss and wholly in eval mode (dropout and drop-path too), and only if
    something needs it. The layers of both models are found and measured in one probing forward when the model is built.

    Args:
        distiller (dict): Config of a :class:`DistProDistiller`.
        teacher (dict): Config of the teacher.
        architecture (dict): Config of the student.
        teacher_ckpt (str, optional): The teacher's checkpoint, file or URL; must fit the teacher entirely. Defaults to
            None, which warns: an untrained teacher teaches nothing.
        input_shape (Sequence[int], optional): [C, H, W] of the images to probe both models with. Defaults to None: the
            channels of the first convolution, at the ``img_size`` a model asks for, or at 64 x 64.
        **kwargs: Of :class:`~mmrazor.models.SingleTeacherDistill`; a trainable teacher is refused.

    Attributes:
        passes (collections.Counter): Forwards of 'teacher' and 'student' made in training steps.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit, or the layers do not fit the models.

    Example:
        >>> model = dict(
        ...     _scope_='mmrazor', type='DistPro',
        ...     architecture=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher_ckpt='work_dirs/teacher/epoch_200.pth',
        ...     distiller=dict(type='DistProDistiller'))
    """

    def __init__(self, distiller: dict, teacher: dict, architecture: dict, teacher_ckpt: Optional[str] = None,
                 input_shape: Optional[Sequence[int]] = None, **kwargs) -> None:
        if kwargs.get('teacher_trainable'):
            raise ConfigError('model.teacher_trainable=True is not supported by DistPro: its teacher is fixed')
        super().__init__(distiller=distiller, teacher=teacher, architecture=architecture, **kwargs)
        if teacher_ckpt is not None:
            load_whole(self.teacher, teacher_ckpt, 'model.teacher_ckpt')
            self.teacher._is_init = True  # else the runner would initialise it afresh
        # mmrazor's own switch walks OrderedDicts, which torch no longer uses for submodules: it does nothing.
        in_place_off(self.teacher)
        in_place_off(self.student)
        self.distiller.prepare_pathways(_traced(self.teacher, input_shape), _traced(self.student, input_shape))
        self.input_shape = input_shape
        self.passes: collections.Counter = collections.Counter()
        self._keep = False
        self._kept: Optional[tuple] = None
        self.train()

    def init_weights(self) -> None:
        """Initialise what is to be trained; called by the runner before training."""
        if not self.teacher.is_init and self.teacher.init_cfg is None:
            print_log('model.teacher_ckpt is not set: the teacher is untrained and teaches nothing', 'current', 30)
        super().init_weights()

    def train(self, mode: bool = True) -> 'DistPro':
        """Set the mode of the student and the transforms; the teacher stays in eval mode in every module."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch_inputs: Tensor, data_samples: Optional[List] = None) -> Dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch_inputs (Tensor): Preprocessed images [B, C, H, W].
            data_samples (list, optional): Their annotations.

        Returns:
            dict[str, Tensor]: The student's own losses under ``student.``, the weighted sum of the pathways as
            ``distill.loss_pathways``, and what ``distill_losses`` of the config adds under ``distill.``.
        """
        distiller = self.distiller
        distilling = not self.distillation_stopped
        transmitted = self._transmit(batch_inputs, data_samples) if distilling else {}
        if self._keep:
            self._kept = (batch_inputs, data_samples, _random_states(batch_inputs.device))
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries, distiller.receiver_reader(self.student) as reader:
            with torch.set_grad_enabled(self.student_trainable and torch.is_grad_enabled()):
                student_losses = self.student(batch_inputs, data_samples, mode='loss')
        self.passes['student'] += 1
        losses = add_prefix(student_losses, 'student') if self.calculate_student_loss else {}
        if distilling:
            if distiller.live:
                pathway_losses = distiller.pathway_losses(reader.features, transmitted, catch=self._keep)
                losses['distill.loss_pathways'] = distiller.weighted_sum(pathway_losses)
            losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
        return losses

    def _transmit(self, batch_inputs: Tensor, data_samples: Optional[List]) -> Dict[str, Tensor]:
        """Run the teacher, if anything needs it, and give its features."""
        distiller = self.distiller
        if not distiller.live and not distiller.loss_forward_mappings:
            return {}
        distiller.set_deliveries_override(False)
        with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries, \
                distiller.transmitter_reader(self.teacher) as reader:
            self.teacher(batch_inputs, data_samples, mode='tensor')
        self.passes['teacher'] += 1
        return reader.features

    def pathway_costs(self) -> Tensor:
        """What each pathway adds to a training step, in steps of the student alone (forward and backward) [N]."""
        student = copy.deepcopy(self.student)
        own = cost(lambda: student(probe_input(student, self.input_shape), mode='tensor'))
        return torch.tensor(self.distiller.costs()) / own

    def keep_batch(self, keep: bool) -> None:
        """Keep (or drop) what :meth:`kept_features` and the sensitivities need of the next training step."""
        self._keep, self._kept = keep, None
        self.distiller.drop_sensitivities()

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


def _traced(model: nn.Module, input_shape: Optional[Sequence[int]]) -> Trace:
    return trace(model, lambda: model(probe_input(model, input_shape), mode='tensor'))


def _random_states(device: torch.device) -> tuple:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == 'cuda' else None


def _set_random_states(states: tuple, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
