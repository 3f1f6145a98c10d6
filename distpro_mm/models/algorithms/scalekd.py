import functools

from mmrazor.registry import MODELS
from torch import Tensor

from .tap_distill import TapDistill


@MODELS.register_module()
class ScaleKD(TapDistill):
    """ScaleKD (NeurIPS 2024): the teacher's last stage also runs on the student's projected features.

    Args:
        **kwargs: Arguments of :class:`TapDistill`; the distiller is a :class:`ScaleKDDistiller`.
    """

    def _transmit(self, batch_inputs: Tensor, data_samples: list | None) -> dict[str, Tensor]:
        self.distiller.forward_teacher = functools.partial(self.teacher, batch_inputs, data_samples, mode='tensor')
        return super()._transmit(batch_inputs, data_samples)
