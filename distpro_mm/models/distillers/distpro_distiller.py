import functools
import logging
import re
from collections.abc import Sequence

from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor

from distpro.errors import argument_prefix
from distpro.pathways import PathwayGrid
from distpro.teachers import named
from distpro.tracing import FeatureTap, Trace, is_headless, resolve_logits
from distpro.weighting import as_weighting

from ...config_types import build, checked, name_of
from ...errors import ConfigError
from ..losses.annotations import annotations_for, has_several_labels
from ..losses.one_label import ONE_LABEL, assumes_one_label, refuse_one_label
from .tap_distiller import TapDistiller

LOGITS = 'model.distiller.logits'
TRANSFORMS = 'model.distiller.transforms'


@MODELS.register_module()
class DistProDistiller(TapDistiller):
    """Compares teacher and student along pathways whose weights change over time.

    The pathways are the grid of ``transmitters`` x ``transforms`` x ``receivers``, restricted to ``connections``; see
    :class:`distpro.pathways.PathwayGrid`. Recorders and losses of :class:`~mmrazor.models.ConfigurableDistiller` can be
    added.

    Args:
        transmitters (str, Sequence or dict): The teacher's layers: 'auto' (stem and stages, found by probing), or a list of
            names as in ``named_modules()`` or of dicts (see :func:`distpro.tracing.resolve_taps`). With
            ``before_activation=True`` in its dict, a layer that ends with an activation is read before it. With several
            teachers, also a dict of these by teacher. Defaults to 'auto'.
        receivers (str or Sequence): The student's layers, in the same format. Defaults to 'auto'.
        connections (str or Sequence): 'all', 'student_not_shallower', 'nearest_depth' or pairs of layer names. Defaults to
            'student_not_shallower'.
        transforms (Sequence[dict]): Transforms; each adds one pathway per connection. The label of a transform is ``name``,
            by default the type without "Transform"; ``distance`` its distance, by default that of all. Defaults to the
            release's ``ConvAttentionTransform``.
        distance (dict): Loss, called with a transformed student's map and a teacher's map. Defaults to
            ``dict(type='HCLLoss')``.
        logits (Sequence[dict]): Losses of the student's and the teacher's logits; each adds one pathway between the
            logits, without a transform, e.g. ``[dict(type='KLDivergence', tau=4)]``. The label of a loss is ``name``, by
            default the type without "Loss" or "Divergence". A loss whose forward has ``gt_labels`` gets the labels.
            ``layer`` is the layer that returns the logits, of both networks or as ``dict(teacher=..., student=...)``: a
            name, or ``dict(module=..., element=...)`` for a layer of several values; by default, the layer whose output the
            network returns. Losses with a softmax over the classes are refused if images have several labels. A teacher
            without logits (pooled features, or a dict without 'logits') leaves these losses out, with a warning, as does one
            of several teachers with other classes than the student. Defaults to none.
        weighting (dict): See :class:`distpro.Weighting`. Defaults to the release's biased softmax, with the
            number of pathways as its default scale.
        compare_at (str): Size at which maps are compared. 'teacher': the student's map is resized to the teacher's size.
            'smaller': the larger map is resized to the smaller size, a teacher's map by averaging; cheaper. Defaults to
            'teacher'.
        map_size (int, optional): Maps are read at a lower resolution: halved as often as both sides can be halved and this
            many pixels or more are left. Cheaper, and as good for classifiers. Defaults to None: as they are.
        compile_transforms (bool): Compile the transforms with ``torch.compile``, but not those whose pathways are computed
            from covariances. Compilation slows the first steps. Defaults to False.
        from_covariances (bool): Compute pathways with a linear transform and HCL from covariances where this is possible;
            the same losses up to rounding, with less time and memory. Defaults to True.
        cuda_graph (bool): On a GPU, record the loss of all pathways and its gradients as a CUDA graph. Defaults to True.
        **kwargs: Arguments of :class:`~mmrazor.models.ConfigurableDistiller`.

    Attributes:
        grid (PathwayGrid): The pathways, their transforms and their current weights.

    Note:
        Source: DistPro (ECCV 2022). The paper describes a search over transforms; its release uses one transform.
    """

    several_teachers = True

    def __init__(self,
                 transmitters: str | Sequence | dict = 'auto',
                 receivers: str | Sequence = 'auto',
                 connections: str | Sequence = 'student_not_shallower',
                 transforms: Sequence[dict] = (dict(type='ConvAttentionTransform'), ),
                 distance: dict = dict(type='HCLLoss'),
                 logits: Sequence[dict] = (),
                 weighting: dict = dict(type='biased_softmax'),
                 compare_at: str = 'teacher',
                 map_size: int | None = None,
                 compile_transforms: bool = False,
                 from_covariances: bool = True,
                 cuda_graph: bool = True,
                 **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        transform_cfgs = _labelled(transforms, TRANSFORMS, 'PointwiseTransform')
        shared = build(distance, 'model.distiller.distance')
        distances = {label: build(cfg.pop('distance'), f'{TRANSFORMS}: distance') if 'distance' in cfg else shared
                     for label, cfg in transform_cfgs.items()}
        for cfg in transform_cfgs.values():
            checked(cfg, TRANSFORMS, ('in_channels', 'out_channels'))
        logit_cfgs = _labelled(logits, LOGITS, 'KLDivergence') if logits else {}
        self.logit_layers = _named_layers(logit_cfgs)
        self.logit_losses = {label: build(cfg, LOGITS) for label, cfg in logit_cfgs.items()}
        with argument_prefix('model.distiller.', ConfigError):
            weighting = as_weighting(weighting)
        self._grid_arguments = dict(  # used in build(), once the layers are known
            transforms={label: functools.partial(build, cfg, TRANSFORMS)
                        for label, cfg in transform_cfgs.items()},
            connections=connections, distance=distances,
            logit_losses=self.logit_losses, weighting=weighting, compare_at=compare_at, map_size=map_size,
            compile_transforms=compile_transforms, from_covariances=from_covariances, cuda_graph=cuda_graph)

    def prepare(self, teacher: Trace | dict[str, Trace], student: Trace) -> None:
        """Find the layers, and the logits if there are logit pathways."""
        self.logit_taps = None
        traces = teacher if isinstance(teacher, dict) else {'': teacher}
        if self.logit_losses and self.logit_layers['teacher'] is None:
            for name in [name for name, traced in traces.items() if _returns_features(traced)]:
                whose = f"teacher '{name}'" if name else 'teacher'
                print_log(f'{LOGITS}: the {whose} returns no logits, so only features are compared', 'current',
                          logging.WARNING)
                traces = {other: traced for other, traced in traces.items() if other != name}
            if not traces:
                self.logit_losses = self._grid_arguments['logit_losses'] = {}
        if self.logit_losses:
            with argument_prefix('model.distiller.', ConfigError):
                self.logit_taps = (
                    *(named(resolve_logits(traced, 'logits', self.logit_layers['teacher']), name)
                      for name, traced in traces.items()),
                    resolve_logits(student, 'logits', self.logit_layers['student']))
            classes = self.logit_taps[-1].shape[0]
            networks = [traced.modules[''] for traced in (*traces.values(), student)]
            refuse_one_label(self.logit_losses, classes, LOGITS, networks)
            self.one_label = [label for label, loss in self.logit_losses.items() if assumes_one_label(loss, classes)]
        super().prepare(teacher, student)

    def build(self, transmitters: list[FeatureTap], receivers: list[FeatureTap]) -> None:
        """Build the grid of pathways."""
        self.grid = PathwayGrid(transmitters, receivers, logit_taps=self.logit_taps, **self._grid_arguments)

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of the active pathways."""
        return self.grid.taps(side)

    def tap_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                   data_samples: list | None) -> dict[str, Tensor]:
        """dict[str, Tensor]: ``loss_pathways``, the weighted sum over the active pathways; empty if none is active."""
        if not self.grid.active:
            return {}
        labels = [self.grid.pathways[index].transform for index in self.grid.logit_indices if index in self.grid.active]
        arguments = {label: self.arguments_of_logit_loss(data_samples, label) for label in labels}
        given = arguments.__getitem__ if any(arguments.values()) else None
        return dict(loss_pathways=self.grid.loss(received, transmitted, given)[0])

    def arguments_of_logit_loss(self, data_samples: list | None, label: str) -> dict:
        """dict: Annotations that the forward of a loss of logits has as arguments.

        Raises:
            ConfigError: If the loss assumes one label per image, and an image has several.
        """
        loss = self.logit_losses[label]
        if label in self.one_label and any(map(has_several_labels, data_samples or ())):
            raise ConfigError(f'{LOGITS}: {label} ({type(loss).__name__}): {ONE_LABEL}')
        return annotations_for(loss, data_samples, LOGITS)


def _returns_features(traced: Trace) -> bool:
    """Whether a network returns a dict without logits, or pooled features."""
    output = traced.output
    if isinstance(output, dict):
        return 'logits' not in output
    return isinstance(output, Tensor) and output.dim() == 2 and is_headless(traced, output)


def _labelled(cfgs: Sequence[dict], key: str, example: str) -> dict[str, dict]:
    """Configs of transforms, or of losses of logits, by label."""
    if isinstance(cfgs, dict) or not cfgs:
        raise ConfigError(f"{key} must be a list of one or more dicts, e.g. [dict(type='{example}')], got {cfgs!r}")
    labelled = {}
    for cfg in cfgs:
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ConfigError(f"{key}: {cfg!r} must be a dict with the key type, e.g. dict(type='{example}')")
        cfg = dict(cfg)
        label = cfg.pop('name', None)
        if label is None:
            kind = re.sub('(Transform|Loss|Divergence)$', '', name_of(cfg['type']))
            label = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', kind).lower()
        if label in labelled or '.' in label:
            raise ConfigError(f"{key}: the label '{label}' is used twice or contains '.'; set name= in its dict")
        labelled[label] = cfg
    return labelled


def _is_layer(value: object) -> bool:
    if isinstance(value, dict):
        return {'module'} <= set(value) <= {'module', 'element'}
    return isinstance(value, str)


def _named_layers(cfgs: dict[str, dict]) -> dict[str, str | dict | None]:
    """Remove the key ``layer`` from the configs of losses of logits; returns the layers of 'teacher' and 'student'."""
    layers: dict[str, str | dict | None] = dict(teacher=None, student=None)
    for cfg in cfgs.values():
        given = cfg.pop('layer', None)
        if given is None:
            continue
        one = not isinstance(given, dict) or 'module' in given
        named = dict.fromkeys(layers, given) if one else given
        if not set(named) <= set(layers) or not all(map(_is_layer, named.values())):
            raise ConfigError(f'{LOGITS}: layer={given!r} must be the name of a layer or dict(module=..., element=...), or '
                              'a dict of these with the keys teacher and student')
        for side, name in named.items():
            if layers[side] not in (None, name):
                raise ConfigError(f"{LOGITS}: layer has two layers of the {side}, '{layers[side]}' and '{name}': give "
                                  'all losses of logits the same layer')
            layers[side] = name
    return layers
