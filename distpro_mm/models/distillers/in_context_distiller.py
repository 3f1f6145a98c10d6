from mmrazor.registry import MODELS
from torch import Tensor

from distpro.errors import argument_prefix
from distpro.tracing import FeatureTap, Trace, find_logits, resolve_logits

from ...config_types import build
from ...errors import ConfigError
from ..losses.annotations import annotations_for
from .recorder_distiller import RecorderDistiller


@MODELS.register_module()
class InContextDistiller(RecorderDistiller):
    """Compares the student's logits with logits that are retrieved by the teacher's features (:class:`InContextLoss`).

    The features are the input [B, C] of the teacher's last linear layer, as those of :class:`TeacherClassesHook`.

    Args:
        loss (dict): Called with the student's logits, the teacher's features, and annotations; returns the losses of the
            positives and of the negatives.
        **kwargs: Arguments of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.

    Raises:
        ConfigError: If ``loss`` is invalid, or a network has no logits.
    """

    def __init__(self, loss: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.context_loss = build(loss, 'model.distiller.loss')

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the logits of the student, and the input of the layer that returns those of the teacher."""
        with argument_prefix('model.distiller.', ConfigError):
            self.student_logits = resolve_logits(student, 'logits')
            logits = find_logits(teacher.output)
        for call in teacher.calls:
            if call.output is logits and call.inputs and isinstance(call.inputs[0], Tensor) and call.inputs[0].dim() == 2:
                self.feature = FeatureTap('feature', call.name, 'input', call.index, shape=tuple(call.inputs[0].shape[1:]))
                return
        raise ConfigError('model.teacher: no layer with an input [B, C] returns the logits: in-context retrieval needs a '
                          'linear classifier')

    def taps(self, side: str) -> list[FeatureTap]:
        """The teacher's features, or the student's logits."""
        return [self.feature if side == 'transmitter' else self.student_logits]

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_positive`` and ``loss_negative``."""
        wanted = annotations_for(self.context_loss, data_samples, 'model.distiller.loss')
        losses = self.context_loss(received[self.student_logits.name], transmitted[self.feature.name], **wanted)
        return dict(zip(('loss_positive', 'loss_negative'), losses))
