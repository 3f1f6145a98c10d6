"""Functions of tensors as CUDA graphs: recorded once, then replayed without the cost of launching each kernel."""
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .random_state import without_side_effects

LIMIT = 16  # graphs of one function; if it needs more, recording costs more than it saves

_recording: list['Recorded'] = []


def is_recording() -> bool:
    """Whether operations are tried out for a graph or recorded, so that their number does not matter."""
    return bool(_recording)


def constant(tensor: Tensor) -> Tensor:
    """A tensor of a cache, which graphs that are being recorded store too, because they read it at each replay."""
    for graph in _recording:
        graph.constants.append(tensor)
    return tensor


class Recorded:
    """A function as a CUDA graph.

    The function must do the same for all values of its inputs: no step of it may depend on a value that Python sees.

    Args:
        function (Callable): From a list of tensors to tensors, in any structure.
        inputs (Sequence[Tensor]): First inputs, all on one GPU. Later ones must have their shapes and types.
        modules (Sequence[nn.Module]): Modules whose buffers the function changes; trying it out leaves them as they were.
        pool (tuple, optional): Memory that is shared with other graphs. Defaults to None.
    """

    def __init__(self, function: Callable[[list[Tensor]], Any], inputs: Sequence[Tensor],
                 modules: Sequence[nn.Module] = (), pool: tuple | None = None) -> None:
        self.inputs = [tensor.detach().clone() for tensor in inputs]
        self.constants: list[Tensor] = []
        device = self.inputs[0].device
        stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        self.graph = torch.cuda.CUDAGraph()
        _recording.append(self)
        try:
            stream.wait_stream(current)
            with torch.cuda.stream(stream), without_side_effects(*modules):
                for _ in range(2):  # libraries choose their algorithms, and constants are made
                    function(self.inputs)
            current.wait_stream(stream)
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode='thread_local'):
                self.outputs = function(self.inputs)
        finally:
            _recording.remove(self)

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        """The function of other inputs. The next call overwrites the result."""
        torch._foreach_copy_(self.inputs, list(inputs))
        self.graph.replay()
        return self.outputs


class Recorder:
    """Recorded functions by key; a function that cannot be recorded is called as it is.

    Args:
        name (str): What is recorded, for a warning.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        self._graphs: dict[Hashable, Recorded] = {}
        self._failed = False
        self._pool: tuple | None = None

    def get(self, key: Hashable, function: Callable[[list[Tensor]], Any], inputs: Sequence[Tensor],
            modules: Sequence[nn.Module] = ()) -> Recorded | None:
        """The recorded function, recorded now if that is new.

        Args:
            key (Hashable): What the function depends on other than its inputs and their shapes.
            function (Callable): See :class:`Recorded`.
            inputs (Sequence[Tensor]): See :class:`Recorded`.
            modules (Sequence[nn.Module]): See :class:`Recorded`.

        Returns:
            Recorded: The graph; None if it cannot be recorded.
        """
        if self._failed:
            return None
        key = key, *((tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device) for tensor in inputs)
        if key not in self._graphs:
            if len(self._graphs) == LIMIT:
                if not torch.are_deterministic_algorithms_enabled():  # there, a resumed run must record too
                    self._stop()
                    return None
                del self._graphs[next(iter(self._graphs))]
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            try:
                self._graphs[key] = Recorded(function, inputs, modules, self._pool)
            except RuntimeError as error:
                warnings.warn(f'{self.name} cannot be recorded as a CUDA graph, so it takes longer: {error}', stacklevel=3)
                self._stop()
                return None
        return self._graphs[key]

    def _stop(self) -> None:
        self._graphs.clear()
        self._failed = True

    def __getstate__(self) -> dict:
        return dict(name=self.name)  # graphs can be neither copied nor saved

    def __setstate__(self, state: dict) -> None:
        self.name = state['name']
        self._start()


def can_record(tensors: Sequence[Tensor]) -> bool:
    """Whether functions of tensors can be recorded here: on a GPU, outside of autocast, compilation and other graphs."""
    return bool(tensors) and all(tensor.is_cuda for tensor in tensors) and not torch.is_autocast_enabled('cuda') and \
        not torch.compiler.is_compiling() and not torch.cuda.is_current_stream_capturing()


def addresses(*modules: nn.Module) -> tuple:
    """The places in memory of the modules' parameters and buffers, at which a graph reads and writes."""
    return tuple(tensor.data_ptr() for tensor in _tensors_of(modules))


def versions(*modules: nn.Module) -> tuple:
    """Counts of the changes of the modules' parameters and buffers."""
    return tuple(0 if tensor.is_inference() else tensor._version for tensor in _tensors_of(modules))


def _tensors_of(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    for root in modules:
        for module in root.modules():
            for tensors in (module._parameters, module._buffers):
                yield from (tensor for tensor in tensors.values() if tensor is not None)
