import contextlib
import copy
import functools
import inspect
import re
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...config_types import checked, name_of
from ...errors import ConfigError
from ...pathways import FeatureTap, Pathway, Trace, connect, resolve_logits, span
from ...process import Weighting
from ..losses.annotations import annotations_for, has_several_labels
from ..losses.hcl_loss import HCLLoss
from ..losses.one_label import ONE_LABEL, assumes_one_label, refuse_one_label
from .by_name import ByName
from .cost import cost
from .tap_distiller import TapDistiller

COMPARE_AT = ('teacher', 'smaller')
LOGITS = 'model.distiller.logits'


@MODELS.register_module()
class DistProDistiller(TapDistiller):
    """Compares teacher and student along pathways whose weights change over time.

    The pathways are the grid of ``transmitters`` x ``transforms`` x ``receivers`` that ``connections`` leaves. Their
    weights come from alpha through ``weighting`` (in a search, and where nothing else is said), or from whoever called
    :meth:`set_weights` last (a replay). What :class:`~mmrazor.models.ConfigurableDistiller` offers (recorders, losses of
    one's own) works beside them.

    alpha is neither a parameter nor a buffer: no optimiser, weight decay, clipping, averaging or bucket of the student
    ever sees it. It is saved with the model as extra state.

    Args:
        transmitters (str or Sequence): The teacher's layers: 'auto' (stem and stages, found by probing), or a list of
            names as in ``named_modules()`` or of dicts (see :func:`distpro_mm.pathways.resolve_taps`). Features are
            taken before the activation that ends the layer, if one does. Defaults to 'auto'.
        receivers (str or Sequence): The student's layers, likewise. Defaults to 'auto'.
        connections (str or Sequence): 'all', 'student_not_shallower', 'same_depth' or pairs of layer names. Defaults to
            'student_not_shallower'.
        transforms (Sequence[dict]): Transforms; each gives one pathway a connection. ``name`` sets the label, else it is
            the type without "Transform". Defaults to the release's ``ConvAttentionTransform`` alone.
        distance (dict): Loss of a transformed student's map and a teacher's map, called with those two. Defaults to
            ``dict(type='HCLLoss')``.
        logits (Sequence[dict]): Losses of the student's and the teacher's logits; each gives one pathway between the
            classifiers' outputs, without transform, e.g. ``[dict(type='KLDivergence', tau=4)]``. ``name`` sets the label,
            else it is the type without "Loss" or "Divergence". One whose forward has ``gt_labels`` is given the labels.
            ``layer`` names the layer that puts the logits out, of both networks or as ``dict(teacher=..., student=...)``;
            else it is the one that puts out what the network returns. Losses that look at a softmax over the classes are
            refused where an image has several labels. Defaults to none.
        weighting (dict): See :class:`distpro_mm.process.Weighting`. Defaults to the release's biased softmax, which, if
            nothing else is said, is scaled by the number of pathways.
        compare_at (str): Size at which maps are compared: 'teacher': the teacher's, to which the student's is resized; or
            'smaller': the smaller of both, to which a larger teacher's map is averaged, which is cheaper. Defaults to
            'teacher'.
        compile_transforms (bool): Run the transforms through ``torch.compile``, which takes a while at the first steps.
            Defaults to False.
        **kwargs: Of :class:`~mmrazor.models.ConfigurableDistiller`.

    Attributes:
        pathways (list[Pathway]): The pathways [N], in the order of alpha and the weights.
        layer_names (dict[str, list[str]]): All 'transmitters' and 'receivers', connected or not, from shallow to deep.
        alpha (Tensor): Free parameters [N], a leaf tensor with a gradient.
        unit (str): Of the weights in force, see :class:`distpro_mm.process.Weighting`.
        variances (Tensor): Variance of the teacher's feature at each of the transmitting layers, measured on the first
            training batch; 0 where it is not measured.
        live (list[int]): Indices of the pathways that are computed.

    Note:
        Source: DistPro (ECCV 2022). Searching over transforms is described in the paper; its release wires one.
    """

    def __init__(self,
                 transmitters: Union[str, Sequence] = 'auto',
                 receivers: Union[str, Sequence] = 'auto',
                 connections: Union[str, Sequence] = 'student_not_shallower',
                 transforms: Sequence[dict] = (dict(type='ConvAttentionTransform'), ),
                 distance: dict = dict(type='HCLLoss'),
                 logits: Sequence[dict] = (),
                 weighting: dict = dict(type='biased_softmax'),
                 compare_at: str = 'teacher',
                 compile_transforms: bool = False,
                 **kwargs) -> None:
        super().__init__(transmitters, receivers, **kwargs)
        self.connections = connections
        self.transform_cfgs = _labelled(transforms, 'model.distiller.transforms', 'PointwiseTransform')
        for cfg in self.transform_cfgs.values():
            checked(cfg, 'model.distiller.transforms', ('in_channels', 'out_channels'))
        self.distance = MODELS.build(checked(distance, 'model.distiller.distance'))
        logit_cfgs = _labelled(logits, LOGITS, 'KLDivergence') if logits else {}
        self.logit_layers = _named_layers(logit_cfgs)
        self.logit_losses = nn.ModuleDict({
            label: MODELS.build(checked(cfg, LOGITS)) for label, cfg in logit_cfgs.items()})
        _check_weighting(weighting)
        if weighting.get('type', 'biased_softmax') == 'biased_softmax':
            weighting = {'scale': 'num_pathways', **weighting}
        self.weighting = Weighting(**weighting)
        self.unit = self.weighting.unit
        if compare_at not in COMPARE_AT:
            raise ConfigError(f"model.distiller.compare_at='{compare_at}' is not one of {', '.join(COMPARE_AT)}")
        self.compare_at, self.compile_transforms = compare_at, compile_transforms
        self.pathways: List[Pathway] = []
        self.catch_sensitivities(False)

    def prepare(self, teacher: Trace, student: Trace) -> None:
        """Find the layers, and the classifiers' outputs if there are pathways between them."""
        if self.logit_losses:
            traces = dict(teacher=teacher, student=student)
            self.logit_taps = tuple(resolve_logits(traces[side], LOGITS, self.logit_layers[side]) for side in traces)
            classes = self.logit_taps[0].shape[0]
            refuse_one_label(dict(self.logit_losses), classes, LOGITS, (teacher.modules[''], student.modules['']))
            self.one_label = [label for label, loss in self.logit_losses.items() if assumes_one_label(loss, classes)]
        super().prepare(teacher, student)

    def build(self, transmitters: List[FeatureTap], receivers: List[FeatureTap]) -> None:
        """Span the pathways and build a transform for each between features.

        Raises:
            ConfigError: If connections or transforms do not fit the layers; names the config key.
        """
        pairs = connect(transmitters, receivers, self.connections)
        self.layer_names = dict(transmitters=[tap.name for tap in transmitters], receivers=[tap.name for tap in receivers])
        self.pathways = span(pairs, list(self.transform_cfgs))
        self.transforms = ByName({pathway.name: self._build_transform(pathway) for pathway in self.pathways})
        if self.compile_transforms:
            # Pathways share code and differ in shapes: each may need a version of its own.
            dynamo = torch._dynamo.config
            dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(self.pathways))
            for transform in self.transforms.values():
                transform.compile(dynamic=False)
        if self.logit_losses:
            self.pathways += self._logit_pathways()
        self.alpha = self.weighting.start(len(self.pathways)).requires_grad_()
        self.variances, self._measured = torch.zeros(len(transmitters)), set()
        self._weights: Optional[Tensor] = None
        self.live = list(range(len(self.pathways)))

    def _logit_pathways(self) -> List[Pathway]:
        """A pathway between the classifiers' outputs for each of their losses."""
        transmitter, receiver = self.logit_taps
        if transmitter.shape != receiver.shape:
            raise ConfigError(f'model.distiller.logits: the teacher has {transmitter.shape[0]} classes and the student '
                              f'{receiver.shape[0]}, so their logits cannot be compared; remove logits')
        if any('logits' in (pathway.transmitter.name, pathway.receiver.name) for pathway in self.pathways):
            raise ConfigError("model.distiller.logits: another layer is called 'logits' too: give it another name=")
        return [Pathway(transmitter, receiver, label) for label in self.logit_losses]

    def _build_transform(self, pathway: Pathway) -> nn.Module:
        try:
            return _transform(self.transform_cfgs[pathway.transform], pathway)
        except ConfigError as error:
            raise ConfigError(f"{error} (pathway '{pathway.name}')") from error

    @property
    def names(self) -> List[str]:
        """list[str]: Names of the pathways [N]."""
        return [pathway.name for pathway in self.pathways]

    def taps(self, side: str) -> List[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of live pathways."""
        return list(dict.fromkeys(getattr(self.pathways[index], side) for index in self.live))

    def set_weights(self, weights: Optional[Sequence[float]], skip_below: float = 0.0, unit: Optional[str] = None) -> None:
        """Set the pathways' weights instead of taking them from alpha.

        Args:
            weights (Sequence[float], optional): Weights [N], 0 or more; None: from alpha again.
            skip_below (float): Pathways of a weight below this, or of weight 0, are not computed. Defaults to 0.
            unit (str, optional): Of the weights, see :class:`distpro_mm.process.Weighting`. Defaults to None: the config's.

        Raises:
            ConfigError: If the weights are not N numbers, or one is negative.
        """
        self.unit = unit or self.weighting.unit
        if weights is None:
            self._weights, self.live = None, list(range(len(self.pathways)))
            return
        weights = torch.as_tensor(weights, dtype=self.alpha.dtype, device=self.alpha.device)
        if weights.shape != self.alpha.shape or (weights < 0).any():
            raise ConfigError(f'the weights of pathways must be {len(self.pathways)} numbers of 0 or more, got '
                              f'{weights.tolist()}')
        self._weights = weights
        # A weight of NaN stays live, so that it shows in the loss.
        self.live = [index for index, weight in enumerate(weights.tolist()) if not (weight == 0 or weight < skip_below)]

    @contextlib.contextmanager
    def weights_in_place(self, weights: Tensor) -> Iterator[None]:
        """Set weights [N], with a graph to whatever they come from, for a while."""
        own = self._weights, self.live, self.unit
        self.set_weights(weights, unit=self.unit)
        try:
            yield
        finally:
            self._weights, self.live, self.unit = own

    def weights(self) -> Tensor:
        """Tensor: The weights [N] in force; detached: the student's training never moves alpha."""
        if self._weights is not None:
            return self._weights
        with torch.no_grad():
            return self.weighting(self.alpha)

    def tap_losses(self, received: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                   data_samples: Optional[List]) -> Dict[str, Tensor]:
        """dict[str, Tensor]: The weighted sum of the live pathways, ``loss_pathways``; nothing if none is live."""
        if not self.live:
            return {}
        return dict(loss_pathways=self.weighted_sum(self.pathway_losses(received, transmitted, data_samples, self.catching)))

    def pathway_losses(self, received: Dict[str, Tensor], transmitted: Dict[str, Tensor],
                       data_samples: Optional[List] = None, catch: bool = False) -> Tensor:
        """Unweighted losses of the live pathways, in the unit of the weights.

        Args:
            received (dict[str, Tensor]): The student's features by layer, each [B, C, H, W]; its logits [B, K].
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            data_samples (list, optional): Annotations of the batch, for losses of logits that want labels.
            catch (bool): Catch what :meth:`sensitivities` needs in the backward pass to come. Defaults to False.

        Returns:
            Tensor: Losses, one for each index in :attr:`live`.
        """
        losses, targets = [], {}
        for index in self.live:
            pathway = self.pathways[index]
            feature = received[pathway.receiver.name]
            key = pathway.transmitter.name, self._size(feature, transmitted[pathway.transmitter.name])
            if key not in targets:  # the teacher's part once a batch
                targets[key] = self._scaled(key[0], _averaged(transmitted[key[0]], key[1]), transmitted[key[0]])
            target = targets[key]
            if catch:
                feature = feature.view_as(feature)  # a pathway's own way into the feature, where its gradient passes alone
                feature.register_hook(functools.partial(self._caught.__setitem__, pathway.name))
            loss = self._compare(pathway, feature, target, data_samples)
            losses.append(loss if self.unit == 'loss' else loss / self._count(pathway))
        losses = torch.stack(losses) if losses else self.alpha.new_zeros(0)
        if catch:
            self._caught_order = [self.pathways[index].name for index in self.live]
            losses.register_hook(functools.partial(setattr, self, '_caught_factors'))
        return losses

    def _scaled(self, name: str, target: Tensor, feature: Tensor) -> Tensor:
        """A teacher's map at some size, in the unit 'variance' divided by the standard deviation of its layer's feature."""
        if self.unit == 'loss' or name == 'logits':
            return target
        layer = self.layer_names['transmitters'].index(name)
        if layer not in self._measured:
            self.variances[layer] = _variance(feature)
            self._measured.add(layer)
        return target / self._deviation(name)

    def _deviation(self, name: str) -> Tensor:
        """The measured standard deviation of a teacher's feature."""
        return self.variances[self.layer_names['transmitters'].index(name)].sqrt()

    def _count(self, pathway: Pathway) -> int:
        """Number of pathways of the same kind, between features or between logits."""
        return len(self.transforms) if pathway.name in self.transforms else len(self.logit_losses)

    def _size(self, feature: Tensor, target: Tensor) -> Tuple[int, ...]:
        """Height and width at which two maps are compared; nothing for logits."""
        size = tuple(target.shape[2:])
        return size if self.compare_at == 'teacher' else tuple(map(min, size, feature.shape[2:]))

    def _compare(self, pathway: Pathway, feature: Tensor, target: Tensor, data_samples: Optional[List]) -> Tensor:
        """The unweighted loss of one pathway."""
        if pathway.name in self.transforms:
            transform = self.transforms[pathway.name]
            feature = transform(feature, size=target.shape[-2:])
            if self.unit == 'variance' and not any(True for _ in transform.parameters()):
                # What is not trained cannot learn the scale of the target.
                feature = feature / self._deviation(pathway.transmitter.name)
            if not isinstance(self.distance, HCLLoss):  # mmrazor's view maps as matrices, which not every layout allows
                feature, target = feature.contiguous(), target.contiguous()
            return self.distance(feature, target)
        loss = self.logit_losses[pathway.transform]
        if pathway.transform in self.one_label and any(map(has_several_labels, data_samples or ())):
            raise ConfigError(f'{LOGITS}: {pathway.transform} ({type(loss).__name__}): {ONE_LABEL}')
        return loss(feature, target, **annotations_for(loss, data_samples, LOGITS))

    def sensitivities(self) -> Iterator[Tuple[str, Optional[Tensor]]]:
        """Derivatives of the unweighted pathway losses, caught in the last backward pass.

        Yields:
            tuple[str, Tensor]: For each pathway its receiving layer and the derivative of its loss with respect to that
            layer's feature, shaped like it; None for a pathway of weight 0: no gradient came by, and where a weight is 0
            its derivative by alpha is 0 too, in every weighting.
        """
        # What came by was multiplied by the pathway's weight, and by a loss scale where there is one.
        factors = dict(zip(self._caught_order, self._caught_factors.tolist()))
        for pathway in self.pathways:
            gradient, factor = self._caught.get(pathway.name), factors.get(pathway.name, 0)
            if gradient is None or factor == 0:
                yield pathway.receiver.name, None
            else:
                yield pathway.receiver.name, gradient.to(self.alpha.dtype) / factor

    def catch_sensitivities(self, catch: bool) -> None:
        """Catch (or do not catch) what :meth:`sensitivities` needs from the next batch on; forgets what was caught."""
        self.catching = catch
        self._caught: Dict[str, Tensor] = {}  # gradients by pathway
        self._caught_order: List[str] = []  # pathways that were computed
        self._caught_factors = torch.zeros(0)  # what their losses were multiplied by

    def costs(self, pathways: Optional[Sequence[Pathway]] = None) -> List[float]:
        """Cost of each pathway, all [N] unless some are named, for two images, see :func:`.cost.cost`."""
        with self._copies():
            known: Dict[tuple, float] = {}  # pathways of the same shapes cost the same
            keys = []
            for pathway in self.pathways if pathways is None else pathways:
                keys.append((pathway.receiver.shape, pathway.transmitter.shape, pathway.transform))
                if keys[-1] not in known:
                    known[keys[-1]] = self._cost(pathway)
            return [known[key] for key in keys]

    def changed_costs(self, pathway: Pathway) -> Dict[Tuple[str, ...], float]:
        """Cost of a pathway between maps after the changes of the config that may lower it, each alone and together.

        Args:
            pathway (Pathway): The pathway.

        Returns:
            dict[tuple[str], float]: Costs as of :meth:`costs`, by the settings to write in ``model.distiller``.
        """
        changed = {}
        simpler = _transform(dict(type='PointwiseTransform'), pathway).to(self.alpha)
        own = self.compare_at
        with self._copies():
            for transform, words in ((self.transforms[pathway.name], ()),
                                     (simpler, ("transforms=[dict(type='PointwiseTransform')]", ))):
                for self.compare_at in dict.fromkeys((own, 'smaller')):
                    settings = words + (f"compare_at='{self.compare_at}'", ) * (self.compare_at != own)
                    if settings:
                        self.transforms[pathway.name] = copy.deepcopy(transform)  # adding to a gradient costs too
                        changed[settings] = self._cost(pathway)
        return changed

    @contextlib.contextmanager
    def _copies(self) -> Iterator[None]:
        """Work with copies of what is trained or counts, and may be changed for a while."""
        own = self.transforms, self.distance, self.logit_losses, self.compare_at
        self.transforms, self.distance, self.logit_losses = copy.deepcopy(own[:3])
        try:
            yield
        finally:
            self.transforms, self.distance, self.logit_losses, self.compare_at = own

    def _cost(self, pathway: Pathway) -> float:
        samples = [DataSample().set_gt_label(0) for _ in range(2)]
        feature, target = (torch.rand(2, *tap.shape, device=self.alpha.device, dtype=self.alpha.dtype)
                           for tap in (pathway.receiver, pathway.transmitter))
        target = _averaged(target, self._size(feature, target))
        return cost(lambda: self._compare(pathway, feature.requires_grad_(), target, samples))

    def weighted_sum(self, losses: Tensor) -> Tensor:
        """Tensor: Sum over the live pathways of weight times loss."""
        return (self.weights()[self.live] * losses).sum()

    def get_extra_state(self) -> Tensor:
        """Tensor: alpha [N] and the variances, for the checkpoint."""
        return torch.cat([self.alpha.detach(), self.variances.to(self.alpha)])

    def set_extra_state(self, state: Tensor) -> None:
        """Take alpha [N] and the variances from a checkpoint; one that was not measured there stays as it is.

        Raises:
            ConfigError: If the checkpoint was made with another number of pathways.
        """
        if state.numel() != len(self.alpha) + len(self.variances):
            raise ConfigError(f'the checkpoint has {state.numel() - len(self.variances)} pathways and model.distiller has '
                              f'{len(self.pathways)}: use the transmitters, receivers, connections and transforms of '
                              'that run')
        with torch.no_grad():
            self.alpha.copy_(state[:len(self.alpha)])
            variances = state[len(self.alpha):].to(self.variances)
            self.variances = torch.where(variances > 0, variances, self.variances)
        self._measured.update(variances.nonzero().flatten().tolist())

    def _apply(self, fn, *args, **kwargs):
        """Take alpha along when the model moves to a device; the leaf tensor stays the same object."""
        super()._apply(fn, *args, **kwargs)
        if self.pathways:
            self.alpha.data = fn(self.alpha.data)
            self.variances = fn(self.variances)
            if self._weights is not None:
                self._weights = fn(self._weights)
        return self


def _transform(cfg: dict, pathway: Pathway) -> nn.Module:
    """The transform of a pathway, by its config."""
    channels = dict(in_channels=pathway.receiver.shape[0], out_channels=pathway.transmitter.shape[0])
    return MODELS.build({**checked(cfg, 'model.distiller.transforms', channels), **channels})


def _averaged(target: Tensor, size: Tuple[int, ...]) -> Tensor:
    """A teacher's map at a size that is no larger; logits as they are."""
    return target if tuple(target.shape[2:]) == size else F.adaptive_avg_pool2d(target, size)


@torch.no_grad()
def _variance(feature: Tensor) -> Tensor:
    """Mean variance of the channels of maps [B, C, H, W], over all processes; 1 where a map is constant."""
    feature = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
    mean, square = feature.mean((0, 2, 3)), feature.square().mean((0, 2, 3))
    for moment in (mean, square):
        all_reduce(moment, op='mean')
    variance = (square - mean.square()).mean()
    return torch.where(variance > 1e-6 * square.mean(), variance, torch.ones_like(variance))


def _labelled(cfgs: Sequence[dict], key: str, example: str) -> Dict[str, dict]:
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


def _named_layers(cfgs: Dict[str, dict]) -> Dict[str, Optional[str]]:
    """Take the key ``layer`` out of the configs of losses of logits: the layers of 'teacher' and 'student', if named."""
    layers = dict(teacher=None, student=None)
    for cfg in cfgs.values():
        given = cfg.pop('layer', None)
        if given is None:
            continue
        named = given if isinstance(given, dict) else dict.fromkeys(layers, given)
        if not set(named) <= set(layers) or not all(isinstance(name, str) for name in named.values()):
            raise ConfigError(f'{LOGITS}: layer={given!r} must be the name of a layer, or a dict of names with the keys '
                              'teacher and student')
        for side, name in named.items():
            if layers[side] not in (None, name):
                raise ConfigError(f"{LOGITS}: layer names two layers of the {side}, '{layers[side]}' and '{name}': all "
                                  'losses of logits compare the same ones')
            layers[side] = name
    return layers


def _check_weighting(weighting: dict) -> None:
    known = list(inspect.signature(Weighting).parameters)
    unknown = [name for name in weighting if name not in known]
    if unknown:
        raise ConfigError(f'model.distiller.weighting has no argument {", ".join(unknown)}; it has {", ".join(known)}')
