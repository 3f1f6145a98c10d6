"""Where in a model a feature is read, found and checked by probing the model once.

Nothing here knows a network by name: :func:`trace` runs one forward and writes down every call of every module, and all
questions (what does this layer put out, which activation produced it, where do the stages end) are asked of that.
"""
import dataclasses
import difflib
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..search import gpus
from .maps import Layout, Reader, element_of

LAST_CALL = -1
DEPTHS = 4  # layers that 'auto' reads of a network whose maps all have one size


@dataclasses.dataclass(frozen=True)
class FeatureTap:
    """One place in a model where a feature map is read.

    Args:
        name (str): Short name without ".", used in the names of pathways.
        module (str): Name of the module as in ``model.named_modules()``.
        side (str): 'output' or 'input' of that module.
        call (int): Which call of the module within one forward, from 0; a module may be called several times.
        element (int or str, optional): Which element, if the module puts out (takes in) several values.
        shape (tuple): Shape [C, H, W] of the map when the model was probed; [K] of logits.
        layer (str): The layer as the config names it; the module is another where a feature before the activation that
            ends the layer is read.
        layout (Layout): How what is read there holds the map. Defaults to a map as it is.
    """
    name: str
    module: str
    side: str = 'output'
    call: int = 0
    element: Union[None, int, str] = None
    shape: Tuple[int, ...] = ()
    layer: str = ''
    layout: Layout = Layout()

    def pick(self, inputs: Tuple, output: Any) -> Any:
        """Pick the value out of what a forward hook sees, as the network holds it."""
        if self.side == 'input':
            return element_of(inputs, self.element)
        return output if self.element is None else element_of(output, self.element)

    def read(self, inputs: Tuple, output: Any) -> Tensor:
        """The feature as a map [B, C, H, W], out of what a forward hook sees; logits as they are.

        Raises:
            ConfigError: If it is no tensor: some modules put out other values in training than in evaluation.
        """
        value = self.pick(inputs, output)
        if not isinstance(value, Tensor):
            raise ConfigError(f"model.distiller: layer '{self.layer}' puts out a {type(value).__name__} here, and a tensor "
                              "where the model was probed, in eval mode: name a layer that puts out the same in training")
        return self.layout(value)


class _EverythingRead(Exception):
    """Ends a forward early: no tap of the reader that it carries lies further on."""


class TapReader:
    """Reads the features of some taps during the forwards made inside it.

    Hooks exist only between enter and exit, so a model can be copied, pickled and run untouched outside.

    Args:
        model (nn.Module): The model that the taps belong to.
        taps (Sequence[FeatureTap]): The taps to read.
        stop_early (bool): End the forward once the last tap is read. What the forward would return is then lost.
            Defaults to False.

    Example:
        >>> with TapReader(model, taps) as reader:
        ...     model(images)
        >>> reader.features['layer2'].shape
    """

    def __init__(self, model: nn.Module, taps: Sequence[FeatureTap], stop_early: bool = False) -> None:
        self.model = model
        self.taps = tuple(taps)
        self.stop_early = stop_early
        self.features: Dict[str, Tensor] = {}

    def __enter__(self) -> 'TapReader':
        self.features = {}
        modules = dict(self.model.named_modules())
        hooks = {modules[name]: self._hook([tap for tap in self.taps if tap.module == name])
                 for name in dict.fromkeys(tap.module for tap in self.taps)}
        self._handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
        return self

    def _hook(self, taps: List[FeatureTap]) -> Callable:
        calls = 0

        def read(module, inputs, output):
            nonlocal calls
            for tap in taps:
                if tap.call == calls:
                    self.features[tap.name] = tap.read(inputs, output)
            calls += 1
            if self.stop_early and len(self.features) == len(self.taps):
                raise _EverythingRead(self)

        return read

    def __exit__(self, kind, error, traceback) -> bool:
        for handle in self._handles:
            handle.remove()
        return kind is _EverythingRead and error.args == (self, )


@dataclasses.dataclass
class Call:
    """One call of one module during a traced forward."""
    name: str
    module: nn.Module
    index: int
    inputs: Tuple
    output: Any
    input_version: Optional[int]  # of the first input before the call: an in-place operation raises a tensor's version
    output_version: Optional[int]  # after the call


class Trace:
    """Every module call of one forward, in the order in which the calls ended.

    Args:
        calls (list[Call]): The calls.
        model (nn.Module): The traced model.
        output (Any): What the forward returned.
    """

    def __init__(self, calls: List[Call], model: nn.Module, output: Any) -> None:
        self.calls = calls
        self.output = output
        self.modules = dict(model.named_modules())
        self.reader = Reader(calls)

    def of(self, name: str) -> List[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.name == name]


def in_place_off(model: nn.Module) -> None:
    """Switch every in-place module off, so that no recorded feature is overwritten by the module after it."""
    for module in model.modules():
        if getattr(module, 'inplace', False) is True:
            module.inplace = False


def trace(model: nn.Module, forward: Callable[[], Any]) -> Trace:
    """Run ``forward`` once and write down every module call of ``model``.

    The model is in eval mode meanwhile; modes, buffers and random states are as before afterwards. Gradients are on, so
    that an output tells whether anything that is trained lies before it.

    Args:
        model (nn.Module): The model to look at.
        forward (Callable): Runs the model once.

    Returns:
        Trace: The calls.
    """
    calls: List[Call] = []
    counts: Dict[str, int] = {}
    entered: List[Optional[int]] = []

    def version_of(value):
        return value._version if isinstance(value, Tensor) else None

    def before(module, inputs):
        entered.append(version_of(inputs[0]) if inputs else None)

    def after(name):

        def hook(module, inputs, output):
            index = counts.get(name, 0)
            counts[name] = index + 1
            calls.append(Call(name, module, index, inputs, output, entered.pop(), version_of(output)))

        return hook

    modes = {module: module.training for module in model.modules()}
    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after(name))]
    try:
        model.eval()
        with torch.enable_grad(), torch.random.fork_rng(devices=gpus(model)):
            output = forward()
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(calls, model, output)


def resolve_taps(config: Union[str, Sequence[Union[str, dict]]], traced: Trace, key: str, root: str = 'backbone',
                 trained: bool = False) -> List[FeatureTap]:
    """Turn the config's list of layers into taps, checked against a traced forward.

    Args:
        config (str or Sequence): 'auto', or a list of module names and dicts with the keys ``module``,
            ``before_activation`` (default True), ``call`` (default: the last), ``element`` and ``name``. In the list,
            ``'auto'`` or ``dict(module='auto', before_activation=False)`` stands for all that 'auto' finds.
        traced (Trace): A forward of the model that the layers belong to.
        key (str): The config key, for errors.
        root (str): The module within which 'auto' looks for stages; the whole model if there is none of that name.
        trained (bool): Leave out of 'auto', and refuse, layers up to which nothing is trained. Defaults to False.

    Returns:
        list[FeatureTap]: From shallow to deep, with their shapes.

    Raises:
        ConfigError: If a layer does not exist, is not called, puts out no map, or its map is overwritten in place.
    """
    if isinstance(config, str):
        if config != 'auto':
            raise ConfigError(f"{key}='{config}' is neither 'auto' nor a list of layer names")
        config = ['auto']
    if not config:
        raise ConfigError(f"{key} is empty: name at least one layer, or write {key}='auto'")
    if not isinstance(config, (list, tuple)) or not all(isinstance(item, (str, dict)) for item in config):
        raise ConfigError(f"{key}={config!r} is neither 'auto' nor a list of layer names or dicts")
    taps = []
    for item in config:
        spec = dict(module=item) if isinstance(item, str) else dict(item)
        for layer in _found(spec, traced, key, root, trained) if spec.get('module') == 'auto' else [spec]:
            taps.append(_resolve(layer, traced, key, root, trained))
    names = [tap.name for tap in taps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{key} has two layers called '{name}': give one of them another name=")
    return taps


def resolve_logits(traced: Trace, key: str, layer: Optional[str] = None) -> FeatureTap:
    """The tap at a classifier's output.

    Args:
        traced (Trace): A forward of the model.
        key (str): The config key, for errors.
        layer (str, optional): The layer whose last output are the logits. Defaults to None: the layer that puts out what
            the model returns.

    Returns:
        FeatureTap: Named 'logits', of shape [K] for K classes.

    Raises:
        ConfigError: If that is not logits [B, K], or no layer puts out what the model returns (which may be the mean of
            two classifiers).
    """
    if layer is not None:
        call = _calls_of(layer, traced, key)[-1]
        output, what = call.output, f"layer '{layer}' puts out"
    else:
        output, what = traced.output, 'the model returns'
    if not isinstance(output, Tensor) or output.dim() != 2:
        seen = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"{key}: {what} {seen}, not logits [B, K]; name the layer that puts them out, e.g. layer='head'")
    if layer is None:
        call = _call_that_gave(output, traced)
        if call is None:
            raise ConfigError(f"{key}: what the model returns is made of what several layers put out (the last one is "
                              f"'{traced.calls[-1].name}'), so no layer has its logits: name the layer to compare, e.g. "
                              f"layer='{traced.calls[-1].name}', or write a head that is a layer and returns the same")
    return FeatureTap('logits', call.name, 'output', call.index, shape=tuple(output.shape[1:]), layer=call.name)


def _call_that_gave(output: Tensor, traced: Trace) -> Optional[Call]:
    """The last call that put out a tensor, or an equal one."""
    tensors = [call for call in reversed(traced.calls) if isinstance(call.output, Tensor)]
    equal = (call for call in tensors if call.output.shape == output.shape and torch.equal(call.output, output))
    return next((call for call in tensors if call.output is output), None) or next(equal, None)


def _calls_of(name: str, traced: Trace, key: str) -> List[Call]:
    """The calls of a layer that a config names, one or more."""
    if not isinstance(name, str) or name not in traced.modules or not name:
        nearest = difflib.get_close_matches(str(name), list(traced.modules), n=3, cutoff=0.3)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ''
        raise ConfigError(f"{key}: the model has no layer '{name}'{hint}")
    calls = traced.of(name)
    if not calls:
        raise ConfigError(f"{key}: layer '{name}' is not called in a forward of the model (a list of layers is not; "
                         f"name one of them: {', '.join(n for n in traced.modules if n.startswith(name + '.'))[:200]})")
    return calls


def _found(spec: dict, traced: Trace, key: str, root: str, trained: bool) -> List[dict]:
    """The layers that 'auto' in a list stands for, read as its dict says."""
    if not set(spec) <= {'module', 'before_activation'}:
        raise ConfigError(f"{key}: module='auto' stands for several layers and may have before_activation only, got {spec}")
    after = {} if spec.get('before_activation', True) else dict(before_activation=False)
    return [{**layer, **after} for layer in find_stages(traced, root if root in traced.modules else '', key, trained)]


def _resolve(spec: dict, traced: Trace, key: str, root: str, trained: bool) -> FeatureTap:
    """Resolve one layer of the config."""
    known = {'module', 'before_activation', 'call', 'element', 'name'}
    if not set(spec) <= known or 'module' not in spec:
        raise ConfigError(f"{key}: a layer needs 'module' and may have {sorted(known - {'module'})}, got {spec}")
    name = spec['module']
    for entry, kinds in (('module', (str, )), ('name', (str, )), ('call', (int, )), ('element', (int, str))):
        if not isinstance(spec.get(entry, kinds[0]()), kinds):
            raise ConfigError(f'{key}: {entry}={spec[entry]!r} of a layer must be of type '
                              f'{" or ".join(kind.__name__ for kind in kinds)}')
    if set('.>:') & set(spec.get('name', '')):
        raise ConfigError(f"{key}: name='{spec['name']}' of a layer may not contain '.', '>' or ':', which divide the names "
                         'of pathways')
    calls = _calls_of(name, traced, key)
    position = spec.get('call', LAST_CALL)
    if not -len(calls) <= position < len(calls):
        raise ConfigError(f"{key}: layer '{name}' is called {len(calls)} times in a forward, so call={position} does "
                         'not exist')
    call = calls[position]
    short = spec.get('name') or (name[len(root) + 1:] if name.startswith(root + '.') else name).replace('.', '_')
    element, layout = _map_in(call.output, spec, traced, f"{key}: layer '{name}'")
    tap = FeatureTap(short, name, 'output', call.index, element, layer=name, layout=layout)
    value, version = tap.pick(call.inputs, call.output), call.output_version
    if spec.get('before_activation', True):
        activation = _activation_of(value, traced)
        if activation is not None:
            tap = dataclasses.replace(tap, module=activation.name, side='input', call=activation.index, element=None)
            value, version = activation.inputs[0], activation.input_version
        elif 'before_activation' in spec:
            raise ConfigError(f"{key}: what layer '{name}' puts out does not come from an activation module, so there is "
                             'nothing before it; leave before_activation out')
    if version is not None and value._version != version:
        raise ConfigError(f"{key}: what layer '{name}' puts out is overwritten in place later in the forward, so the "
                         'feature read there would not be its own; set inplace=False in that layer or name another')
    if trained and not value.requires_grad:
        raise ConfigError(f"{key}: nothing up to layer '{name}' is trained (frozen_stages?), so it could learn nothing "
                          "there; leave it out, as 'auto' does")
    return dataclasses.replace(tap, shape=tuple(layout(value).shape[1:]))


def _map_in(output: Any, spec: dict, traced: Trace, layer: str) -> Tuple[Union[None, int, str], Layout]:
    """Which element of what a layer puts out is read, and how that holds a map."""
    several = isinstance(output, (tuple, list, dict))
    places = list(output) if isinstance(output, dict) else list(range(len(output))) if several else [0]
    element = spec.get('element')
    found = traced.reader.maps(output)
    if element is None and len(found) == 1:
        return found[0]
    if element is None and (len(found) > 1 or several and len(places) > 1):
        raise ConfigError(f'{layer} puts out {len(places)} values: say which with element=, one of {places}')
    if element is not None and element not in places and not (isinstance(element, int) and -len(places) <= element < 0):
        raise ConfigError(f'{layer} puts out {len(places)} value(s), so element={element!r} does not exist; '
                          f'there are {places}')
    value = element_of(output, element)
    layout = traced.reader.layout(value)
    if layout is None:
        seen = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f'{layer} puts out {seen}, which holds no map: neither [B, C, H, W] nor [B, H, W, C] nor tokens '
                          '[B, L, C] that fill a grid of the proportions of the images')
    return (element if several else None), layout


def _activation_of(feature: Any, traced: Trace) -> Optional[Call]:
    """The call of an activation module that produced ``feature``, if one did."""
    if not isinstance(feature, Tensor):
        return None
    for call in traced.calls:
        if call.output is feature and not list(call.module.children()) and _is_elementwise(call):
            return call
    return None


def _is_elementwise(call: Call) -> bool:
    """Whether a module acts on each element by itself and changes something: what an activation does.

    Told by trying: an elementwise function commutes with any permutation of the elements.
    """
    if isinstance(call.module, nn.PReLU):
        return True
    if any(True for _ in call.module.parameters()) or any(True for _ in call.module.buffers()):
        return False  # a fresh batch norm is elementwise too
    value = call.inputs[0] if call.inputs else None
    if value is call.output and call.input_version != call.output_version:
        return True  # in place: what went in is gone, which the caller refuses by the versions
    if not isinstance(value, Tensor) or value.shape != call.output.shape or torch.equal(value, call.output):
        return False
    order = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(0)).to(value.device)
    permuted = value.flatten()[order].view_as(value).clone()
    was_training = call.module.training
    call.module.eval()
    try:
        with torch.no_grad():
            image = call.module(permuted)
    finally:
        call.module.train(was_training)
    return torch.allclose(image.flatten(), call.output.flatten()[order], atol=1e-6)


def find_stages(traced: Trace, root: str, key: str, trained: bool = False) -> List[dict]:
    """Find the layers of a backbone that are worth comparing.

    The parts of the backbone are its children that are called, looking into lists that are not. Parts that hold at
    least two weight matrices are its blocks (where there are none, every part with weights is). A stage is a run of
    blocks with maps of one size, and is read at its last block; the stem is what comes before the first block. Where all
    blocks have maps of one size, as those of a plain transformer, :data:`DEPTHS` of them are read, at even depths.

    Args:
        traced (Trace): A forward of the model.
        root (str): Name of the backbone within the model.
        key (str): The config key, for errors.
        trained (bool): Leave out layers up to which nothing is trained. Defaults to False.

    Returns:
        list[dict]: Layers as in the config, from shallow to deep.

    Raises:
        ConfigError: If fewer than two layers are found.
    """
    parts = _called_parts(traced, root)
    while len(parts) == 1:
        parts = _called_parts(traced, parts[0].call.name)
    matrices = {part.call.name: sum(p.dim() >= 2 for p in part.call.module.parameters()) for part in parts}
    blocks = [part for part in parts if matrices[part.call.name] >= 2]
    if len(blocks) < 2:
        blocks = [part for part in parts if matrices[part.call.name] >= 1]
    plain = len({block.size for block in blocks}) == 1
    if plain:
        count = min(DEPTHS, len(blocks))
        layers = [blocks[math.ceil(len(blocks) * (place + 1) / count) - 1] for place in range(count)]
    else:
        layers = [block for block, following in zip(blocks, blocks[1:] + [None])
                  if following is None or block.size != following.size]
    if trained:
        layers = [layer for layer in layers if layer.value.requires_grad]
    if len(layers) < 2:
        raise ConfigError(f"{key}='auto' found {len(layers)} layer(s) in '{root or 'the model'}': name its layers, e.g. "
                         f"{key}=['backbone.layer1', 'backbone.layer2']")
    before = [part for part in parts[:parts.index(blocks[0])] if not plain and (part.value.requires_grad or not trained)]
    stem = [{**before[-1].spec, 'name': 'stem'}] if before else []
    return stem + [layer.spec for layer in layers]


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a backbone that puts out a map."""
    call: Call
    element: Union[None, int, str]
    layout: Layout

    @property
    def value(self) -> Tensor:
        """Tensor: What holds the map."""
        return element_of(self.call.output, self.element)

    @property
    def size(self) -> Tuple[int, int]:
        """tuple[int, int]: The map's height and width."""
        return tuple(self.layout(self.value).shape[2:])

    @property
    def spec(self) -> dict:
        """dict: The part as a layer of the config."""
        return dict(module=self.call.name, **({} if self.element is None else dict(element=self.element)))


def _called_parts(traced: Trace, root: str) -> List[_Part]:
    """Last calls of the outermost modules under ``root`` that put out maps, in the order of the forward.

    What comes after a global pooling (a module without weights that makes a map 1 x 1) is no map any more.
    """
    last = {call.name: (order, call) for order, call in enumerate(traced.calls)}
    found: List[Tuple[int, _Part]] = []

    def collect(prefix: str) -> None:
        for child, _ in traced.modules[prefix].named_children():
            name = f'{prefix}.{child}' if prefix else child
            if name not in last:
                if name in traced.modules:  # else another name of a module that has one
                    collect(name)
                continue
            order, call = last[name]
            found.extend((order, _Part(call, *place)) for place in traced.reader.maps(call.output)[:1])

    collect(root)
    parts = []
    for _, part in sorted(found, key=lambda entry: entry[0]):
        came = part.call.inputs[0] if part.call.inputs else None
        if part.size == (1, 1) and not any(True for _ in part.call.module.parameters()) and \
                isinstance(came, Tensor) and came.shape[2:] != (1, 1):
            break
        parts.append(part)
    return parts
