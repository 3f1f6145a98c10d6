from mmrazor.registry import MODELS

from ...errors import ConfigError
from .tap_distill import TapDistill


@MODELS.register_module()
class SimKD(TapDistill):
    """SimKD (Chen et al., CVPR 2022): the student learns the teacher's last map and predicts with the teacher's classifier.

    The student is an ordinary classifier: backbone, :class:`SimKDNeck`, pooling, and a head of the teacher's shape. The
    head gets the teacher's weights before training and is frozen. Testing and export do not need the teacher.

    Args:
        **kwargs: Arguments of :class:`TapDistill`. ``calculate_student_loss`` defaults to False: there is no cross-entropy.

    Raises:
        ConfigError: If the shapes of the student's and the teacher's heads differ.
    """

    def __init__(self, calculate_student_loss: bool = False, **kwargs) -> None:
        super().__init__(calculate_student_loss=calculate_student_loss, **kwargs)
        self._reuse_classifier()
        for parameter in self.student.head.parameters():
            parameter.requires_grad = False

    def init_weights(self) -> None:
        """Initialise the student, and copy the teacher's classifier; called by the runner before training."""
        super().init_weights()
        self._reuse_classifier()

    def _reuse_classifier(self) -> None:
        try:
            self.student.head.load_state_dict(self.teacher.head.state_dict())
        except RuntimeError as error:
            raise ConfigError("model.architecture.head: SimKD's student predicts with the teacher's classifier: use the "
                              f"teacher's head, and a SimKDNeck to the teacher's channels: {error}") from error
