from mmrazor.registry import MODELS
from torch import Tensor

from distpro.tracing import FeatureTap, Trace

from .tap_distiller import TapDistiller


@MODELS.register_module()
class RecorderDistiller(TapDistiller):
    """mmrazor's :class:`~mmrazor.models.ConfigurableDistiller` for :class:`TapDistill`: recorders and losses, no taps.

    So methods on logits get what :class:`TapDistill` does for the teacher: its own preprocessing, and a faster forward.

    Args:
        **kwargs: Arguments of :class:`~mmrazor.models.ConfigurableDistiller`.
    """

    def __init__(self, **kwargs) -> None:
        super(TapDistiller, self).__init__(**kwargs)  # refuses layers, which this distiller has none of

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Nothing to find: recorders name their modules."""

    def taps(self, side: str) -> list[FeatureTap]:
        """None."""
        return []

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """None; the losses are those of ``distill_losses``."""
        return {}
