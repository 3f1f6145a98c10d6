"""Faster forwards of a frozen network: batch norms folded into convolutions, bfloat16 where the device has it."""
import contextlib
import functools
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..checks import check_choice
from ..cuda_graph import Recorder, addresses, can_record, versions
from ..random_state import gpus
from .trace import Trace, tensors_in
from .weight_watch import WeightWatch

# Largest relative error of a feature, as the norm of the difference. What is worse is not used.
BOUNDS = dict(bfloat16=0.05, exact=1e-3)
MEANING = dict(bfloat16='bfloat16', exact='folding of batch norms')
IN_AUTOCAST = 0.05  # of 'exact', where the network itself has the rounding of a type of 16 bits
FAST_CHOICES = (True, 'exact', False)
Features = dict[Any, Any]  # tensors, or nested tuples, lists and dicts of them, by name


class FastForward:
    """Runs a frozen network faster than the network itself.

    A batch norm in eval mode whose input is the output of a convolution, and of nothing else, is folded into the
    convolution. On devices with units for bfloat16, the network runs in this type, with convolutions in the memory format
    channels_last. On a GPU, the forward is recorded as a CUDA graph, which saves the launching of its kernels; after that,
    neither hooks nor any Python of the network run. The network's parameters, buffers, hooks and state dict do not change:
    its modules compute differently during :meth:`run` only, and weights that change are folded and recorded again. A
    convolution or batch norm with hooks, as for reading what it returns or gets, is not folded.

    The first time, the features are compared with those of the network as it is. bfloat16 is used only if each feature has a
    relative error of at most 5%, and folding only if it is at most 0.1%, or 5% in autocast; a warning says what is not used.
    Weights that change without torch's notice, as those of an average that is updated through ``.data``, are noticed in the
    first runs or in every 100th; from then on the network runs as it is.

    Args:
        traced (Trace): A forward of the network.
        fast (bool or str): True: all of this. 'exact': in the network's own type, which changes rounding only. False: the
            network as it is. Defaults to True.

    Raises:
        ArgumentError: If ``fast`` is none of these.
    """

    def __init__(self, traced: Trace, fast: bool | str = True) -> None:
        check_choice('fast_teacher', fast, FAST_CHOICES)
        self.network = traced.modules['']
        self.norms = _norms_to_fold(traced)
        self._layers = {module: self.norms.get(module) for module in self.network.modules()
                        if type(module) in (nn.Conv2d, nn.Linear)}
        self.ways = [] if fast is False else ['exact'] if fast == 'exact' else ['bfloat16', 'exact']
        self._accepted: dict[tuple, bool] = {}  # by way, and type of autocast
        self.exact = fast == 'exact'
        self._watch = WeightWatch(self.network)
        self._recorder = Recorder('the teacher')
        self._weights: dict[tuple[nn.Module, str], tuple[tuple, Tensor, Tensor | None]] = {}

    def run(self, read: Callable[..., Features], *inputs: Any, key: Hashable = None) -> Features:
        """Run the network; as it is where gradients are on.

        Args:
            read (Callable): Runs the network on the inputs and returns features by name.
            *inputs (Any): The network's inputs. Only tensors allow a CUDA graph.
            key (Hashable, optional): What else the result depends on, such as the names of the layers that are read. A CUDA
                graph does not see anything else change. Defaults to None: no CUDA graph.

        Returns:
            dict[str, Tensor]: The features, in the type of the network.
        """
        if torch.is_grad_enabled():
            return read(*inputs)
        if self.ways and self._watch.changed_unseen():
            self.ways = []
            warnings.warn("fast_teacher: the teacher's weights change through .data, which is not seen: from here on it "
                          'runs as it is; change them under torch.no_grad(), without .data', stacklevel=2)
        for way in self.ways:
            if way == 'bfloat16' and not self._has_bfloat16():
                continue
            kind = way, self._autocast()
            accepted = self._accepted.get(kind)
            if accepted is None:
                accepted = self._accepts(read, inputs, way)
            if accepted is not None:
                self._accepted[kind] = accepted
            if accepted:
                found = None if key is None or self.exact else self._replayed(read, inputs, key, way)
                return self._run(read, inputs, way) if found is None else found
        return read(*inputs)

    def _replayed(self, read: Callable[..., Features], inputs: Sequence, key: Hashable, way: str) -> Features | None:
        """The features, by a CUDA graph; None if they cannot be recorded."""
        if not all(isinstance(part, Tensor) for part in inputs) or not can_record(inputs):
            return None
        # The graph has the weights' places in memory, and copies of some weights.
        recorded = self._recorder.get((key, way, addresses(self.network), versions(self.network)),
                                      lambda tensors: self._run(read, tensors, way), inputs)
        # Copies, since the next replay overwrites them.
        return None if recorded is None else _each(recorded(inputs), Tensor.clone)

    def _accepts(self, read: Callable[..., Features], inputs: Sequence, way: str) -> bool | None:
        """Whether the features are right on these images; a warning says if not. None: they are NaN and say nothing."""
        bound = IN_AUTOCAST if self._autocast() is not None else BOUNDS[way]
        with torch.random.fork_rng(devices=gpus(self.network)):
            plain = read(*inputs)
            if any(tensor.isnan().any() for tensor in tensors_in(plain)):
                return None
            try:
                found = self._run(read, inputs, way)
            except RuntimeError as error:
                problem = f'the teacher fails with it: {error}'
            else:
                errors = {name: relative_error(found[name], plain[name]) for name in plain}
                worst = max(errors, key=errors.__getitem__, default='')
                if not errors or errors[worst] <= bound:
                    return True
                problem = (f"layer '{worst}' of the teacher has a relative error of {errors[worst]:.2g} with it; at most "
                           f'{bound:g} is accepted')
        warnings.warn(f'fast_teacher: {MEANING[way]} is not used, because {problem}', stacklevel=3)
        return False

    def _has_bfloat16(self) -> bool:
        """Whether the network is in float32 and its device has units for bfloat16 that are not in use by autocast."""
        parameter = next(self.network.parameters(), None)
        if parameter is None or parameter.dtype != torch.float32 or self._autocast() is not None:
            return False
        return has_bfloat16(parameter.device.type)

    def _autocast(self) -> torch.dtype | None:
        """The type that autocast computes in on the network's device; None if it is off."""
        parameter = next(self.network.parameters(), None)
        if parameter is None or not torch.is_autocast_enabled(parameter.device.type):
            return None
        return torch.get_autocast_dtype(parameter.device.type)

    def _run(self, read: Callable[..., Features], inputs: Sequence, way: str) -> Features:
        if way == 'exact':
            with self._replaced(None):
                return read(*inputs)
        device = next(self.network.parameters()).device.type
        with self._replaced(torch.bfloat16), torch.autocast(device, torch.bfloat16):
            found = read(*inputs)
        return _each(found, _as_float32)

    @contextlib.contextmanager
    def _replaced(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Inside the context, modules compute with folded weights of a type; None: their own."""
        replaced: list[nn.Module] = []

        def replace(*_: Any) -> None:  # when the forward begins, and all hooks are there
            if not replaced:
                replaced.extend(self._replace(dtype))

        handle = self.network.register_forward_pre_hook(replace)
        try:
            yield
        finally:
            handle.remove()
            for module in replaced:
                del module.forward

    def _replace(self, dtype: torch.dtype | None) -> Iterator[nn.Module]:
        """Replace forwards of modules, and yield these modules."""
        for layer, norm in self._layers.items():
            if norm is not None and (norm.training or _is_read(layer) or _is_read(norm)):
                norm = None
            if norm is None and dtype is None or 'forward' in vars(layer) or 'forward' in vars(norm or layer):
                continue  # nothing to do, or someone else has replaced its forward
            weight, bias = self._folded(layer, norm, dtype)
            operation = F.linear if isinstance(layer, nn.Linear) else layer._conv_forward
            layer.forward = functools.partial(operation, weight=weight, bias=bias)
            yield layer
            if norm is not None:
                norm.forward = _same
                yield norm

    def _folded(self, layer: nn.Module, norm: nn.Module | None, dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a layer with the batch norm after it, computed again where they changed."""
        modules = [layer] if norm is None else [layer, norm]
        state = addresses(*modules), versions(*modules)
        key = layer, str(dtype)
        if key not in self._weights or self._weights[key][0] != state:
            weight, bias = (layer.weight, layer.bias) if norm is None else _fold(layer, norm)
            if dtype is not None:
                channels_last = weight.dim() == 4
                weight = weight.to(dtype, memory_format=torch.channels_last if channels_last else torch.preserve_format)
                bias = None if bias is None else bias.to(dtype)
            self._weights[key] = state, weight, bias
        return self._weights[key][1:]


def has_bfloat16(device: str) -> bool:
    """Whether a type of device, 'cpu' or 'cuda', has instructions for products in bfloat16."""
    if device == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == 'cpu' and bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def relative_error(found: Any, exact: Any) -> float:
    """Norm of the difference of two features as a share of the norm; the largest one of nested features."""
    errors = []
    for one, other in zip(tensors_in(found), tensors_in(exact)):
        wide = torch.float32 if other.device.type == 'mps' else torch.float64  # which MPS has not
        one, other = one.to(wide), other.to(wide)
        errors.append(((one - other).norm() / other.norm().clamp_min(1e-30)).item())
    return max(errors, default=0.0)


def _norms_to_fold(traced: Trace) -> dict[nn.Module, nn.Module]:
    """The batch norm after each convolution, where it is all that the convolution's output is used for."""
    convolutions = {id(call.output): call.module for call in traced.calls
                    if type(call.module) is nn.Conv2d and len(traced.of(call.name)) == 1}
    folded = {}
    for call in traced.calls:
        if type(call.module).forward not in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward) or not call.inputs:
            continue
        layer, given = convolutions.get(id(call.inputs[0])), call.inputs[0]
        if layer is None or call.module.running_mean is None or len(traced.of(call.name)) > 1 or traced.uses(given) != 1:
            continue
        folded[layer] = call.module
    return folded


def _fold(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that is a convolution with a batch norm in eval mode after it."""
    double = [None if tensor is None else tensor.cpu().double() for tensor in (
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)]
    weight, bias = fuse_conv_bn_weights(*double[:4], norm.eps, *double[4:])
    return weight.to(layer.weight), bias.to(layer.weight)


def _is_read(module: nn.Module) -> bool:
    """Whether a hook sees what the module gets or returns."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _same(x: Tensor) -> Tensor:
    return x


def _as_float32(feature: Tensor) -> Tensor:
    """A feature in float32 and in the usual memory format."""
    if feature.dtype != torch.bfloat16:
        return feature
    return feature.to(torch.float32, memory_format=torch.contiguous_format)


def _each(features: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested tuples, lists and dicts with each tensor changed."""
    if isinstance(features, Tensor):
        return change(features)
    if isinstance(features, (tuple, list)):
        parts = [_each(part, change) for part in features]
        return type(features)(*parts) if hasattr(features, '_fields') else type(features)(parts)
    if type(features) is dict:
        return {name: _each(part, change) for name, part in features.items()}
    return features
