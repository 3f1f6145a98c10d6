"""Run the part of a network after a layer on other features than the network's own."""
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError
from .reader import FeatureReader
from .tap import FeatureTap
from .trace import Trace

BEFORE = 'modules_before'  # where RestReader stores the outputs of the modules that are not run again


class NetworkRest:
    """The part of a network between two layers, for any network: with skip connections, class tokens, several inputs.

    A reader (:meth:`reader`) records the outputs of the modules up to the first layer in a forward of the network. In
    :meth:`run`, the network's forward is called again: those modules return what was recorded, the first layer returns
    the given feature, and the other modules compute. So only the part after the first layer costs time.

    Args:
        traced (Trace): A forward of the network.
        start (FeatureTap): The first layer; an output, of a layer that is called once.
        end (FeatureTap): The last layer, after the first one.

    Attributes:
        before (list[str]): Names of the modules that are not run again, with the first layer.

    Raises:
        ArgumentError: If the first layer is called several times, or its feature is read before the activation that
            ends it, or the last layer does not depend on it.
    """

    def __init__(self, traced: Trace, start: FeatureTap, end: FeatureTap) -> None:
        self.network: nn.Module = traced.modules['']
        self.start, self.end = start, end
        calls = traced.of(start.module)
        if start.side != 'output':
            raise ArgumentError(f"layer '{start.layer}' is read before its activation, so the network cannot continue from "
                                'it: leave out before_activation=True')
        if len(calls) > 1:
            raise ArgumentError(f"layer '{start.layer}' is called {len(calls)} times in a forward, so the network cannot "
                                'continue from it: give a layer that is called once')
        order = next(place for place, call in enumerate(traced.calls) if call.name == start.module)
        later = {call.name for call in traced.calls[order + 1:]}
        if end.module not in later:
            raise ArgumentError(f"layer '{end.layer}' is not called after layer '{start.layer}': give the layers from "
                                'shallow to deep')
        ended = dict.fromkeys(call.name for call in traced.calls[:order + 1] if call.name not in later)
        self.before = [name for name in ended if not any(parent in ended for parent in _parents(name))]

    def reader(self, stop_early: bool) -> 'RestReader':
        """RestReader: Reads the features of both layers, and what :meth:`run` needs; see :class:`FeatureReader`."""
        return RestReader(self, stop_early)

    def run(self, forward: Callable[[], Any], feature: Tensor, outputs: dict[str, list]) -> Tensor:
        """Run the part after the first layer. Gradients pass from the result to ``feature``, if they are on.

        Args:
            forward (Callable): Runs the network on the images of the forward that was recorded.
            feature (Tensor): The map at the first layer [B, C, H, W], of the size of the network's own.
            outputs (dict[str, list]): What the reader recorded under :data:`BEFORE`.

        Returns:
            Tensor: The map at the last layer [B, C, H, W].
        """
        own = outputs[self.start.module][0]
        with self._replaced({**outputs, self.start.module: [self.start.write(own, feature)]}), \
                FeatureReader(self.network, [self.end], stop_early=True) as reader:
            forward()
        return reader.features[self.end.name]

    @contextlib.contextmanager
    def _replaced(self, outputs: dict[str, list]) -> Iterator[None]:
        """Inside the context, modules return these outputs, one for each call."""
        modules = {name: self.network.get_submodule(name) for name in outputs}
        forwards = {name: vars(module).get('forward') for name, module in modules.items()}

        def returning(values: list) -> Callable:
            remaining = iter(values)
            return lambda *args, **kwargs: next(remaining)

        try:
            for name, module in modules.items():
                module.forward = returning(outputs[name])
            yield
        finally:
            for name, module in modules.items():
                del module.forward
                if forwards[name] is not None:
                    module.forward = forwards[name]


class RestReader(FeatureReader):
    """Reads the features at both ends of a :class:`NetworkRest`, and under :data:`BEFORE` the outputs that it needs.

    Args:
        rest (NetworkRest): The part of the network.
        stop_early (bool): See :class:`FeatureReader`.
    """

    def __init__(self, rest: NetworkRest, stop_early: bool) -> None:
        super().__init__(rest.network, [rest.start, rest.end], stop_early)
        self.names = rest.before

    def __enter__(self) -> 'RestReader':
        super().__enter__()
        self._outputs: dict[str, list] = {name: [] for name in self.names}
        for name, found in self._outputs.items():
            hook = _appending(found)
            self._handles.append(self.model.get_submodule(name).register_forward_hook(hook))
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        self.features[BEFORE] = self._outputs
        return super().__exit__(kind, error, traceback)


def _appending(found: list) -> Callable:
    def hook(module, inputs, output):
        found.append(output)

    return hook


def _parents(name: str) -> Iterator[str]:
    """Names of the modules that a module is in, without the network."""
    while '.' in name:
        name = name.rpartition('.')[0]
        yield name
