"""The grid of pathways: their transforms, losses and current weights."""
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..cuda_graph import is_recording
from ..errors import ArgumentError
from ..tracing import FeatureTap
from ..weighting import Weighting, as_weighting
from .by_name import ByName
from .covariances import LinearPathways
from .hcl_loss import HCLLoss
from .linear import LinearLayers, linear_layers
from .logits import check_temperature, comparable, compare_logits, logit_pathways, logits_are_unique, losses_of_teachers
from .maps import averaged
from .parts import Distance, as_loss, built, check_comparison, check_labels, check_transforms, distances_of, try_maps
from .pathway import Pathway, connect, span
from .recorded_loss import RecordedLoss
from .sensitivities import SensitivityRecorder
from .variances import TeacherVariances
from .weights import PathwayWeights


class PathwayGrid(PathwayWeights):
    """Pathways between the layers of one or several teachers and of a student, and the loss of all of them.

    Args:
        transmitters (Sequence[FeatureTap]): The teacher's layers, from shallow to deep; of several teachers one after the
            other, named ``<teacher>:<layer>``.
        receivers (Sequence[FeatureTap]): The student's layers, from shallow to deep.
        transforms (dict[str, Callable]): By label: ``build(in_channels, out_channels)`` returns a module, whose
            ``forward(map, size=size)`` maps the student's [B, in_channels, H, W] to the teacher's
            [B, out_channels, *size]. Each label adds one pathway per connection. Transforms and distances of a user are run
            once here, with noise of the maps' shapes.
        connections (str or Sequence): See :func:`~distpro.pathways.connect`. Defaults to 'student_not_shallower'.
        distance (nn.Module, Callable or dict, optional): Loss of a transformed student's map and a teacher's map, called
            with these two; a scalar. A dict has one by the label of a transform; those of other labels are
            :class:`HCLLoss`. Defaults to None: :class:`HCLLoss` for all.
        logit_taps (Sequence[FeatureTap], optional): The logits of each teacher, and last those of the student. One of
            several teachers that has other classes is left out, with a warning. Defaults to None.
        logit_losses (dict[str, nn.Module]): By label: losses of the student's and a teacher's logits [B, K]. Each adds
            one pathway without a transform per teacher. Defaults to none.
        weighting (Weighting, str or dict, optional): From alpha to weights, see :func:`distpro.weighting.as_weighting`.
            Defaults to None: ``Weighting('exponential')``.
        compare_at (str): Size at which maps are compared. 'teacher': the student's map is resized to the teacher's size.
            'smaller': the larger map is resized to the smaller size (a teacher's by averaging). Defaults to
            'teacher'.
        map_size (int, optional): Maps are read at a lower resolution: halved as often as both sides can be halved and this
            many pixels or more are left, >= 1. Defaults to None: as they are.
        compile_transforms (bool): Compile the transforms with ``torch.compile``, but not those whose pathways are computed
            from covariances. Defaults to False.
        from_covariances (bool): Compute pathways with a linear transform (1x1 convolution, with or without batch norm) and
            HCL from covariances, which needs less time and memory and gives the same loss up to rounding. If a side of the
            teacher's map is not a multiple of the student's, and for all other transforms and distances, maps are
            transformed and compared in any case; also on a GPU outside of a CUDA graph, where covariances take longer.
            Defaults to True.
        cuda_graph (bool): On a GPU, record the loss of all pathways and its gradients as a CUDA graph. Defaults to True.

    Attributes:
        pathways (list[Pathway]): The pathways [N], in the order of alpha and the weights.
        layer_names (dict[str, list[str]]): All 'transmitters' and 'receivers', connected or not, from shallow to deep.
        alpha, unit, active: See :class:`PathwayWeights`.

    Raises:
        ArgumentError: If connections or transforms do not fit the layers, or an argument is out of range.
    """

    def __init__(self,
                 transmitters: Sequence[FeatureTap],
                 receivers: Sequence[FeatureTap],
                 transforms: dict[str, Callable[..., nn.Module]],
                 connections: str | Sequence = 'student_not_shallower',
                 distance: Distance | Mapping[str, Distance] | None = None,
                 logit_taps: Sequence[FeatureTap] | None = None,
                 logit_losses: dict[str, nn.Module] | None = None,
                 weighting: Weighting | str | dict | None = None,
                 compare_at: str = 'teacher',
                 map_size: int | None = None,
                 compile_transforms: bool = False,
                 from_covariances: bool = True,
                 cuda_graph: bool = True) -> None:
        super().__init__(as_weighting(weighting))
        check_transforms(transforms)
        check_labels('logits', logit_losses or {}, 0, 'dict(mse=torch.nn.MSELoss())')
        check_comparison(compare_at, map_size, dict(
            compile_transforms=compile_transforms, from_covariances=from_covariances, cuda_graph=cuda_graph))
        self.compare_at, self.compile_transforms = compare_at, compile_transforms
        self.from_covariances, self.cuda_graph = from_covariances, cuda_graph
        self._recorded_loss = RecordedLoss(self)
        transmitters, receivers = ([tap.at(map_size) for tap in taps] for taps in (transmitters, receivers))
        pairs = connect(transmitters, receivers, connections)
        self.layer_names = dict(transmitters=[tap.name for tap in transmitters], receivers=[tap.name for tap in receivers])
        self.pathways = span(pairs, list(transforms))
        self.transforms = ByName({pathway.name: built(transforms[pathway.transform], pathway) for pathway in self.pathways})
        self.distances = ByName(distances_of(distance, list(transforms)))
        try_maps(self.pathways, self.transforms, self.distances, self.size, transforms)
        if logit_losses and logit_taps is None:
            raise ArgumentError('logit_losses need logit_taps, the logits of teacher and student')
        self.logit_taps = comparable(logit_taps) if logit_losses and logit_taps else logit_taps
        losses = {label: as_loss(f'logits: {label}', loss) for label, loss in (logit_losses or {}).items()}
        self.logit_losses = losses_of_teachers(losses, self.logit_taps or ())
        if self.compile_transforms:
            # Pathways share code but differ in shapes, so each may need its own compiled version.
            dynamo = torch._dynamo.config
            dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(self.pathways))
            for transform in self.transforms.values():
                transform.compile(dynamic=False)
        if self.logit_losses:
            if not logits_are_unique(self.pathways):
                raise ArgumentError("logits: a different layer is called 'logits' too: rename it with name=")
            self.pathways += logit_pathways(self.logit_taps or (), list(logit_losses or ()))
        self._start_weights(len(self.pathways))
        self._variances = TeacherVariances(self.layer_names['transmitters'])
        self.record_sensitivities(False)

    @property
    def variances(self) -> Tensor:
        """Tensor: Variance of the teacher's feature at each transmitting layer, measured on the first batch.

        0 if not measured. Infinite if the feature is constant; the losses of its pathways are 0.
        """
        return self._variances.values

    @property
    def names(self) -> list[str]:
        """list[str]: Names of the pathways [N]."""
        return [pathway.name for pathway in self.pathways]

    @property
    def logit_indices(self) -> list[int]:
        """list[int]: Indices of the pathways between logits."""
        return [index for index, pathway in enumerate(self.pathways) if pathway.name not in self.transforms]

    def schedule(self, names: Sequence[str]) -> None:
        """As in :class:`PathwayWeights`; a temperature needs a loss of logits that has one."""
        super().schedule(names)
        check_temperature(names, self.logit_losses.values())

    def taps(self, side: str) -> list[FeatureTap]:
        """Taps of the 'transmitter' or 'receiver' side of the active pathways."""
        return list(dict.fromkeys(getattr(self.pathways[index], side) for index in self.active))

    def loss(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
             arguments: Callable[[str], dict] | None = None) -> tuple[Tensor, Tensor]:
        """The weighted sum of the active pathways' losses, and these losses, of which one or more must be active.

        On a GPU, the sum is computed by a CUDA graph where this is possible, and can be differentiated once. If the weights
        have a graph, derivatives are recorded or the temperature is scheduled, it is not, and can be differentiated twice.

        Args:
            received, transmitted, arguments: See :meth:`pathway_losses`.

        Returns:
            tuple[Tensor, Tensor]: The sum, a scalar, and the detached losses, one for each index in :attr:`active`.
        """
        if self.cuda_graph and not self.catching and arguments is None and 'temperature' not in self.scheduled:
            found = self._recorded_loss(received, transmitted)
            if found is not None:
                return found
        losses = self.pathway_losses(received, transmitted, arguments, self.catching)
        return self.weighted_sum(losses), losses.detach()

    def pathway_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor],
                       arguments: Callable[[str], dict] | None = None, catch: bool = False) -> Tensor:
        """Unweighted losses of the active pathways, in the unit of the weights.

        In the unit 'variance', the losses of pathways from a constant feature of the teacher are 0.

        Args:
            received (dict[str, Tensor]): The student's features by layer, each [B, C, H, W]; logits [B, K].
            transmitted (dict[str, Tensor]): The teacher's features by layer.
            arguments (Callable, optional): Called with the label of a loss of logits; returns further arguments of the
                loss, e.g. the labels of the images. Defaults to None.
            catch (bool): Record gradients for :meth:`sensitivities` in the next backward pass. Defaults to False.

        Returns:
            Tensor: Losses, one for each index in :attr:`active`.
        """
        losses: dict[int, Tensor] = {}
        targets: dict[tuple, Tensor] = {}  # the teacher's part, once per batch
        linear = {distance: LinearPathways(distance) for distance in self.distances.values()}
        if self.unit == 'variance':
            self._variances.measure(transmitted, (self.pathways[index].transmitter.name for index in self.active))
        for index in self.active:
            pathway = self.pathways[index]
            feature, target = received[pathway.receiver.name], transmitted[pathway.transmitter.name]
            if catch:
                feature = self._recorder.view_of(pathway.name, feature)
            divisor = self._divisor(pathway)
            size = self.size(feature, target)
            layers = self.linear_layers_of(pathway, feature, size)
            key = pathway.transmitter.name, size, layers is None
            if key not in targets:
                scaled = averaged(target, size)
                targets[key] = scaled / divisor if divisor is not None and layers is None else scaled
            if layers is None:
                losses[index] = self.compare(pathway, feature, targets[key], arguments)
            else:
                linear[self.distances[pathway.transform]].add(index, layers, feature, targets[key], divisor)
        for group in linear.values():
            losses.update(group.losses())
        if not losses:
            return self.alpha.new_zeros(0)
        found = torch.stack([losses[index] if self.unit == 'loss' else self._normalised(index, losses[index])
                             for index in self.active])
        if catch:
            self._recorder.watch([self.pathways[index].name for index in self.active], found)
        return found

    def linear_layers_of(self, pathway: Pathway, feature: Tensor, size: tuple[int, ...]) -> LinearLayers | None:
        """The layers of a pathway's transform if its loss is computed from covariances, else None."""
        if not self.from_covariances or pathway.name not in self.transforms or feature.is_cuda and not is_recording():
            return None
        if type(self.distances[pathway.transform]).forward is not HCLLoss.forward:
            return None
        layers = linear_layers(self.transforms[pathway.name])
        if layers is None or any(side % part for side, part in zip(size, feature.shape[2:])):
            return None
        return None if feature.numel() == feature.size(1) else layers  # torch's batch norm refuses a single pixel

    @property
    def trained(self) -> tuple[nn.ModuleDict, nn.ModuleDict]:
        """tuple[nn.ModuleDict, nn.ModuleDict]: The transforms, and the losses of logits."""
        return self.transforms, self.logit_losses

    def _divisor(self, pathway: Pathway) -> Tensor | None:
        """What a teacher's map is divided by: in the unit 'variance', the standard deviation of its layer's feature."""
        features = pathway.name in self.transforms
        return self._variances.deviation(pathway.transmitter.name) if features and self.unit == 'variance' else None

    def _normalised(self, index: int, loss: Tensor) -> Tensor:
        """A pathway's loss over the number of pathways of its kind, features or logits; 0 for a constant feature."""
        pathway = self.pathways[index]
        loss = loss / (len(self.transforms) if pathway.name in self.transforms else len(self.logit_losses))
        # With a graph: training over several processes expects a gradient of every parameter.
        return loss * 0 if self._variances.is_constant(pathway.transmitter.name) else loss

    def size(self, feature: Tensor, target: Tensor) -> tuple[int, ...]:
        """Height and width at which two maps are compared; empty for logits."""
        size = tuple(target.shape[2:])
        return size if self.compare_at == 'teacher' else tuple(map(min, size, feature.shape[2:]))

    def compare(self, pathway: Pathway, feature: Tensor, target: Tensor,
                arguments: Callable[[str], dict] | None = None) -> Tensor:
        """The unweighted loss of one pathway, at the size of ``target``."""
        if pathway.name in self.transforms:
            transform, distance = self.transforms[pathway.name], self.distances[pathway.transform]
            feature = transform(feature, size=target.shape[-2:])
            if self.unit == 'variance' and not any(True for _ in transform.parameters()):
                # Without parameters, the transform cannot learn the scale of the target.
                feature = feature / self._variances.deviation(pathway.transmitter.name)
            if not isinstance(distance, HCLLoss):  # others may need contiguous maps
                feature, target = feature.contiguous(), target.contiguous()
            return distance(feature, target)
        more = arguments(pathway.transform) if arguments else {}
        return compare_logits(pathway, self.logit_losses, feature, target, self.scheduled_value('temperature'), **more)

    def sensitivities(self) -> Iterator[tuple[str, Tensor | None]]:
        """Derivatives of the unweighted pathway losses, recorded in the last backward pass.

        Yields:
            tuple[str, Tensor]: For each pathway, its receiving layer and the derivative of its loss with respect to this
            layer's feature, of the feature's shape. None for a pathway with weight 0, which has no gradient; in every
            weighting, a weight of 0 has derivative 0 with respect to alpha.
        """
        return self._recorder.derivatives(self.pathways, self.alpha.dtype)

    def record_sensitivities(self, catch: bool) -> None:
        """Start or stop recording gradients for :meth:`sensitivities`; clears the recorded gradients."""
        self.catching, self._recorder = catch, SensitivityRecorder()

    def get_extra_state(self) -> Tensor:
        """Tensor: alpha [N] and the variances, for the checkpoint."""
        return torch.cat([self.alpha.detach(), self.variances.to(self.alpha)])

    def set_extra_state(self, state: Tensor) -> None:
        """Load alpha [N] and the variances from a checkpoint; a variance that is not measured there does not change.

        Raises:
            ArgumentError: If the number of pathways differs from the checkpoint's.
        """
        if state.numel() != len(self.alpha) + len(self.variances):
            raise ArgumentError(f'the checkpoint has {state.numel() - len(self.variances)} pathways and the model has '
                                f'{len(self.pathways)}: use the transmitters, receivers, connections and transforms of '
                                'the checkpoint')
        with torch.no_grad():
            self.alpha.copy_(state[:len(self.alpha)])
            self._variances.load(state[len(self.alpha):])

    def _apply(self, fn, *args, **kwargs):
        """Move the variances with the module."""
        super()._apply(fn, *args, **kwargs)
        self._variances.values = fn(self.variances)
        return self
