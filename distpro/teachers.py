"""One or several fixed teachers of a distillation: their layers, logits and forwards."""
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .checks import brief, check_that
from .errors import ArgumentError, argument_prefix
from .networks import build_network
from .pathways.names import LABEL, LOGITS, is_label, of_teacher, split_teacher
from .tracing import FastForward, FeatureReader, FeatureTap, Trace, is_headless, resolve_taps, tensors_in, trace_example

Network: TypeAlias = nn.Module | str | dict


def build_teachers(teacher: Network) -> nn.Module | dict[str, nn.Module]:
    """Build one teacher, or several by name.

    Args:
        teacher (nn.Module, str or dict): The teacher, or its name, see :func:`distpro.build_network`. A dict without the key
            ``name`` has several of these by names of your own.

    Raises:
        ArgumentError: If a network cannot be built, or several have no proper names.
    """
    if not isinstance(teacher, dict) or 'name' in teacher:
        return build_network(teacher)
    if len(teacher) < 2:
        keys = ', '.join(map(str, teacher)) or 'none'  # without the values, which may be networks of many lines
        raise ArgumentError(f"teacher: a dict (keys: {keys}) must be the dict of a network, with the key name, such as "
                            "dict(name='timm:resnet18'), or have two or more teachers by name, such as dict(large=..., "
                            'small=...)')
    for name in teacher:
        if not is_label(name):
            raise ArgumentError(f'teacher: the name {name!r} of a teacher must be {LABEL}')
    built = {}
    for name, network in teacher.items():
        with argument_prefix(f'teacher: {name}: '):
            built[name] = build_network(network)
    return built


def build_pair(student: Network, teacher: Network) -> tuple[nn.Module, nn.Module | dict[str, nn.Module]]:
    """Build a student and one or several teachers, see :func:`build_teachers`.

    Raises:
        ArgumentError: If a network cannot be built, or one is both student and teacher.
    """
    with argument_prefix('student: '):
        built = build_network(student)
    if isinstance(built, torch.jit.ScriptModule):
        raise ArgumentError('student: the layers of a TorchScript network cannot be read: pass the network that it was made '
                            'from')
    with argument_prefix('' if isinstance(teacher, dict) else 'teacher: '):
        teachers = build_teachers(teacher)
    if any(inner(built) is inner(one) for one in (teachers.values() if isinstance(teachers, dict) else [teachers])):
        raise ArgumentError('student and teacher are the same module: give a copy.deepcopy of it as the teacher to distil a '
                            'network from its own earlier weights')
    if not any(True for _ in built.parameters()):
        raise ArgumentError(f'student={brief(built)} has no parameters, so there is nothing to train')
    return built, teachers


class Teachers:
    """The teachers of a :class:`~distpro.Distillation`, in eval mode.

    Args:
        networks (dict[str, nn.Module]): The teachers by name; a single one has the name ''.
        get_logits (Callable): Gives the logits [B, K] out of what a network returns.

    Attributes:
        fast (dict[str, FastForward]): The fast forward of each teacher, see :meth:`run_faster`.
    """

    def __init__(self, networks: dict[str, nn.Module], get_logits: Callable[[Any], Tensor]) -> None:
        self.networks, self.get_logits = networks, get_logits
        self.fast: dict[str, FastForward] = {}
        self.eval()

    def trace(self, example: Any) -> dict[str, Trace]:
        """dict[str, Trace]: A forward of each teacher, see :func:`distpro.tracing.trace_example`."""
        return {name: trace_example(inner(network), example, f"teacher '{name}'" if name else 'teacher')
                for name, network in self.networks.items()}

    def eval(self) -> None:
        """Set all teachers to eval mode."""
        for network in self.networks.values():
            network.eval()

    def run_faster(self, traces: dict[str, Trace], choice: bool | str) -> None:
        """Prepare the forwards, see :class:`distpro.tracing.FastForward`; a compiled teacher runs as it is."""
        self.fast = {name: FastForward(traces[name], choice if inner(network) is network else False)
                     for name, network in self.networks.items()}

    def logit_taps(self, traces: dict[str, Trace], optional: bool) -> list[FeatureTap]:
        """The logits of the teachers.

        Args:
            traces (dict[str, Trace]): A forward of each.
            optional (bool): Leave out teachers that return none or a single one, with a warning, instead of an error.

        Raises:
            ArgumentError: If no logits are found where they are needed.
        """
        found = []
        for name, traced in traces.items():
            if optional and self._is_headless(traced):
                whose = f"teacher '{name}'" if name else 'teacher'
                warnings.warn(f'the {whose} returns no logits, so only features are compared', stacklevel=3)
                continue
            tap = logit_tap(self.get_logits, traced, f'teacher: {name}' if name else 'teacher')
            if optional and tap.shape[0] == 1:
                warnings.warn('logits: there is one logit, of which a softmax is always 1, so only features are compared; '
                              'give another loss, such as logits=dict(mse=torch.nn.MSELoss())', stacklevel=3)
                continue
            found.append(named(tap, name))
        return found

    def _is_headless(self, traced: Trace) -> bool:
        try:
            return is_headless(traced, self.get_logits(traced.output))
        except ArgumentError:
            return is_headless(traced, None)

    def read(self, taps: Sequence[FeatureTap], args: tuple, kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """The features of taps, by their names; a teacher without taps does not run."""
        features: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            own = taps_of(name, taps)
            if network.training:  # by train() of a module that has it too
                network.eval()
            if own:
                def read(*given: Any, network: nn.Module = network, own: list[FeatureTap] = own) -> dict[str, Tensor]:
                    return read_features(network, own, given, kwargs, self.get_logits, 'teacher')[1]

                with torch.no_grad():
                    features |= self.fast[name].run(read, *args, key=None if kwargs else tuple(own))
        return features


def teacher_taps(traces: dict[str, Trace], layers: str | Sequence | dict) -> list[FeatureTap]:
    """The layers of all teachers, one teacher after the other.

    Args:
        traces (dict[str, Trace]): A forward of each teacher by name; a single one has the name ''.
        layers (str, Sequence or dict): As in :func:`distpro.tracing.resolve_taps`, for every teacher; or such layers by
            teacher, where a teacher that is missing has 'auto'.

    Returns:
        list[FeatureTap]: Named ``<teacher>:<layer>`` if there are several teachers.

    Raises:
        ArgumentError: If a layer does not exist, or a name is not that of a teacher.
    """
    given = layers if isinstance(layers, dict) else dict.fromkeys(traces, layers)
    unknown = [name for name in given if name not in traces]
    if unknown:
        known = [name for name in traces if name]
        raise ArgumentError(f"transmitters has '{unknown[0]}', which is not a teacher: " + (
            f'the teachers are {", ".join(known)}' if known else
            "there is one teacher; give a list of its layers, or 'auto'"))
    keys = {name: f'transmitters: {name}' if name else 'transmitters' for name in traces}
    return [named(tap, name) for name, traced in traces.items()
            for tap in resolve_taps(given.get(name, 'auto'), traced, keys[name])]


def taps_of(teacher: str, taps: Sequence[FeatureTap]) -> list[FeatureTap]:
    """list[FeatureTap]: The taps of one teacher by its name."""
    return [tap for tap in taps if split_teacher(tap.name)[0] == teacher]


def read_features(network: nn.Module, taps: Sequence[FeatureTap], args: tuple, kwargs: dict[str, Any],
                  get_logits: Callable[[Any], Tensor], which: str) -> tuple[Any, dict[str, Tensor]]:
    """Run a network and read features.

    Args:
        network (nn.Module): The network.
        taps (Sequence[FeatureTap]): What to read; the tap of the logits is at no module.
        args (tuple): Arguments of its forward.
        kwargs (dict[str, Any]): Further arguments.
        get_logits (Callable): Gives the logits out of what it returns.
        which (str): 'student', or 'teacher', whose forward ends after the last feature if no logits are read.

    Returns:
        tuple[Any, dict[str, Tensor]]: What it returned, None if the forward ended early; features by the names of the taps.
    """
    features = [tap for tap in taps if not _is_logits(tap)]
    output = None
    with FeatureReader(inner(network), features, which == 'teacher' and len(features) == len(taps)) as reader:
        output = network(*args, **kwargs)
    missing = [tap.layer for tap in features if tap.name not in reader.features]
    if missing:
        raise ArgumentError(f"{which}: layer '{missing[0]}' was not read in this forward: a compiled network skips the "
                            'hooks that read features, so pass the network uncompiled (compile_transforms=True compiles '
                            'the transforms); otherwise name a layer that every forward calls, also where a training '
                            'drops layers')
    if torch.is_grad_enabled() and reader.without_gradients:
        raise ArgumentError(f"{which}: layer '{reader.without_gradients[0].layer}' runs without gradients in training, so "
                            'its pathways would teach nothing: set use_reentrant=False in activation checkpointing, or name '
                            'layers outside of it')
    found = dict(reader.features)
    if output is not None:
        for tap in taps:
            if _is_logits(tap):
                found[tap.name] = get_logits(output)
    return output, found


def _is_logits(tap: FeatureTap) -> bool:
    return split_teacher(tap.name)[1] == LOGITS


def inner(network: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``, whose layers have their own names."""
    return getattr(network, '_orig_mod', network)


def logit_tap(get_logits: Callable[[Any], Tensor], traced: Trace, side: str) -> FeatureTap:
    """The tap of what ``get_logits`` gives; it is at no module."""
    with argument_prefix(f'{side}: '):
        logits = get_logits(traced.output)
        check_that('get_logits(output)', logits, isinstance(logits, Tensor) and logits.dim() > 1, 'logits [B, K]')
        return FeatureTap(LOGITS, '', shape=tuple(logits.shape[1:]), layer='')


def classifies_images(get_logits: Callable[[Any], Tensor], traced: Trace) -> bool:
    """Whether a traced network has one row of logits for each image, and not one for each pixel or object."""
    images = next((tensor.size(0) for call in traced.calls for tensor in tensors_in(call.inputs) if tensor.dim()), None)
    logits = get_logits(traced.output)
    return logits.dim() == 2 and logits.size(0) == images


def named(tap: FeatureTap, teacher: str) -> FeatureTap:
    """A tap with the teacher's name before its own; the logits are at no layer."""
    layer = of_teacher(teacher, tap.layer) if tap.layer else ''
    return dataclasses.replace(tap, name=of_teacher(teacher, tap.name), layer=layer)
