import torch
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor

from distpro.checks import check_number

from ...errors import ConfigError
from .simkd import SimKD


@MODELS.register_module()
class ATSC(SimKD):
    r"""ATSC (2024, arXiv 2406.08528): SimKD with a teacher that adapts, and a classifier that both networks share.

    .. math:: \beta\, \mathrm{MSE}(\mathrm{proj}(f_s), f_t) + w \sum_l \lVert \theta_l - \theta_l^0 \rVert^2
              + \mathrm{CE}(\mathrm{classifier}(\mathrm{pool}(f_t)))

    Student, projector and teacher are trained by the first term, whose weight beta is that of the distiller's loss. The
    second holds the teacher's parameters (all but the classifier) near their initial values. The last one trains the
    classifier alone. The student predicts with this classifier, and is exported with its projector, as in SimKD.

    Args:
        proximity (float): w, >= 0. Defaults to 1, the release's for CIFAR-100; 10 for ImageNet.
        **kwargs: Arguments of :class:`SimKD`. ``teacher_norm_eval`` defaults to False: as in the release, the teacher's
            batch norms use the batch.

    Raises:
        ConfigError: If ``proximity`` is out of range, the teacher is not to be trained, or it has no neck.

    Note:
        A reconstruction from the abstract and the release's losses. The release's second term leaves out vectors, so that
        the teacher's batch norms are free: they shrink until its features hardly differ, and the student learns nothing
        (measured on CIFAR-100). Here it has all parameters. The release trains only the classifier's bias by the last
        term, in a separate step after each step, and evaluates a student without projector, so that it cannot have given
        the paper's figures. Here the entire classifier is trained. No other term has its parameters, so the optimiser that
        trains the networks trains it too.
    """

    trains_teacher = True

    def __init__(self, proximity: float = 1.0, **kwargs) -> None:
        check_number('model.proximity', proximity, least=0, error=ConfigError)
        super().__init__(**{'teacher_norm_eval': False, **kwargs})
        if not getattr(self.teacher, 'with_neck', False):
            raise ConfigError('model.teacher: ATSC pools the compared map by the neck of the teacher, and it has none: use '
                              'a classifier of mmpretrain with a GlobalAveragePooling')
        self.proximity = proximity
        self._share_classifier()
        self.moving = [name for name, _ in self.teacher.named_parameters() if not name.startswith('head.')]
        for number, weight in enumerate(self._weights()):
            self.distiller.register_buffer(f'teacher_start_{number}', weight.detach().clone())

    def _share_classifier(self) -> None:
        """Make the parameters of both classifiers the same ones."""
        for name, module in self.teacher.head.named_modules():
            own = self.student.head.get_submodule(name)
            for key, parameter in own.named_parameters(recurse=False):
                parameter.requires_grad = True
                setattr(module, key, parameter)

    def _weights(self) -> list[Tensor]:
        """The teacher's parameters that stay near their initial values."""
        return [self.teacher.get_parameter(name) for name in self.moving]

    def init_weights(self) -> None:
        """Initialise the student, with the classifier of a loaded teacher; called by the runner before training."""
        classifier = {name: value.clone() for name, value in self.teacher.head.state_dict().items()}
        loaded = self.teacher.is_init
        super().init_weights()
        if loaded:
            self.student.head.load_state_dict(classifier)
        with torch.no_grad():
            for number, weight in enumerate(self._weights()):
                self.distiller.get_buffer(f'teacher_start_{number}').copy_(weight)

    def _transmit(self, batch_inputs: Tensor, data_samples: list | None) -> dict[str, Tensor]:
        self._transmitted = super()._transmit(batch_inputs, data_samples)
        return self._transmitted

    def loss(self, batch_inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch_inputs (Tensor): Preprocessed images [B, C, H, W].
            data_samples (list, optional): Their annotations.

        Returns:
            dict[str, Tensor]: The distiller's losses under ``distill.``, the classifier's and the distance from the initial
            teacher under ``teacher.``.
        """
        losses = super().loss(batch_inputs, data_samples)
        if self.distillation_stopped:
            return losses
        feature = self._transmitted.pop(self.distiller.taps('transmitter')[-1].name)
        classifier = self.teacher.head.loss(self.teacher.neck((feature.detach(), )), data_samples)
        distance = sum((weight - self.distiller.get_buffer(f'teacher_start_{number}')).square().sum()
                       for number, weight in enumerate(self._weights()))
        losses.update(add_prefix(classifier, 'teacher'))
        losses['teacher.loss_distance'] = self.proximity * distance
        return losses
