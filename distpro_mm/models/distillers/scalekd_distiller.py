from collections.abc import Callable, Sequence

from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import check_number
from distpro.errors import argument_prefix
from distpro.pathways import CrossAttention, CrossAttentionTransform
from distpro.tracing import FeatureTap, NetworkRest, Trace
from distpro.tracing.rest import BEFORE, RestReader

from ...errors import ConfigError
from ..losses.dual_view_loss import VIEWS, DualViewLoss
from .tap_distiller import TapDistiller


@MODELS.register_module()
class ScaleKDDistiller(TapDistiller):
    """ScaleKD (Fan et al., NeurIPS 2024): the student's last two maps against the teacher's last map, in two views.

    In each view, spatial and frequency (:class:`DualViewLoss`), two projectors map the student to the teacher:

    - the second last map, by :class:`CrossAttentionTransform` with a learned query, to the teacher's second last map. The
      teacher's frozen last stage runs on the result ("teacher parameter perception"), with gradients for the student.
    - the last map, by :class:`CrossAttention` with the result of that stage as its query.

    Both results are compared with the teacher's last map. Works for convolutional networks, MLPs and transformers, as
    teachers and students, whose last two layers have maps. Needs the algorithm :class:`ScaleKD`.

    Args:
        transmitters (str or Sequence): See :class:`TapDistiller`; the last two layers are used. The second last one must
            be after its activation. Defaults to the layers of 'auto', after the activation.
        receivers (str or Sequence): See :class:`TapDistiller`; the last two layers are used. The default is the same.
        weights (dict[str, float]): Factors of the views, >= 0; a view with the factor 0 is left out. Defaults to
            ``dict(spatial=0.08, frequency=0.06)``, the release's for ImageNet and Swin teachers.
        heads (tuple[int, int], optional): Heads of the two projectors. Defaults to None, see :class:`CrossAttention`.
            The release has 3 and 6 for Swin-S, 8 and 16 for Swin-B, 16 and 24 for Swin-L.
        sharpness (float): Factor of the attention's logits. Defaults to 5, the release's.
        **kwargs: Arguments of mmrazor's :class:`~mmrazor.models.ConfigurableDistiller`.

    Raises:
        ConfigError: If an argument is out of range, or a network has fewer than two layers.

    Note:
        Written from the paper's formulas and the release's configs. If the teacher's maps have one size, as in a plain
        transformer, 'auto' reads four depths, and the "last stage" is the last quarter of the blocks. The release also
        runs blocks after the last projection there; here it is compared as it is.
    """

    forward_teacher: Callable  # the teacher's forward on the batch

    def __init__(self, transmitters: str | Sequence = 'auto', receivers: str | Sequence = 'auto',
                 weights: dict[str, float] = dict(spatial=0.08, frequency=0.06), heads: tuple[int, int] | None = None,
                 sharpness: float = 5.0, **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        if not isinstance(weights, dict) or not set(weights) <= set(VIEWS):
            raise ConfigError(f'model.distiller.weights={weights!r} must be a dict with the keys {", ".join(VIEWS)}')
        for view, weight in weights.items():
            check_number(f'model.distiller.weights.{view}', weight, least=0, error=ConfigError)
        if not any(weights.values()):
            raise ConfigError(f'model.distiller.weights={weights!r}: a view needs a weight above 0')
        check_number('model.distiller.sharpness', sharpness, above=0, error=ConfigError)
        if heads is not None and (not isinstance(heads, (tuple, list)) or len(heads) != 2):
            raise ConfigError(f'model.distiller.heads={heads!r} must be two numbers of heads, e.g. (8, 16)')
        self.view_losses = nn.ModuleDict({view: DualViewLoss(view, weight) for view, weight in weights.items() if weight})
        self.heads, self.sharpness = heads or (None, None), sharpness

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the layers, build the projectors, and find the teacher's last stage."""
        super().prepare(teacher, student)
        with argument_prefix('model.distiller.transmitters: ', ConfigError):
            self.rest = NetworkRest(teacher, *self.teacher_taps)

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Build two projectors for each view."""
        for key, taps in (('transmitters', transmitters), ('receivers', receivers)):
            if len(taps) < 2:
                raise ConfigError(f'model.distiller.{key} has {len(taps)} layer: ScaleKD compares the last two')
        self.teacher_taps, self.student_taps = transmitters[-2:], receivers[-2:]
        (start, end), (shallow, deep) = self.teacher_taps, self.student_taps
        options = [dict(heads=heads, sharpness=self.sharpness, in_size=tap.shape[1:])
                   for heads, tap in zip(self.heads, self.student_taps)]
        with argument_prefix('model.distiller.', ConfigError):
            self.projectors = nn.ModuleDict({view: nn.ModuleDict(dict(
                shallow=CrossAttentionTransform(shallow.shape[0], start.shape[0], out_size=start.shape[1:], **options[0]),
                deep=CrossAttention(deep.shape[0], end.shape[0], **options[1]))) for view in self.view_losses})

    def taps(self, side: str) -> list[FeatureTap]:
        """The last two taps of the 'transmitter' or 'receiver' side."""
        return self.teacher_taps if side == 'transmitter' else self.student_taps

    def transmitter_reader(self, teacher: nn.Module, name: str = '') -> RestReader:
        """RestReader: Reads the teacher's features, and the outputs that its last stage needs to run again."""
        more = self.teacher_recorders.recorders or self.deliveries.deliveries
        return self.rest.reader(stop_early=not more)

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_<view>_<layer>`` for both views and both layers of the student."""
        start, end = (transmitted[tap.name] for tap in self.teacher_taps)
        shallow, deep = self.student_taps
        losses = {}
        for view, loss in self.view_losses.items():
            projectors = self.projectors[view]
            entered = projectors['shallow'](received[shallow.name], size=tuple(start.shape[2:]))
            perceived = self.rest.run(self.forward_teacher, entered, transmitted[BEFORE])
            projected = projectors['deep'](received[deep.name], perceived)
            losses[f'loss_{view}_{shallow.name}'] = loss(perceived, end)
            losses[f'loss_{view}_{deep.name}'] = loss(projected, end)
        return losses
