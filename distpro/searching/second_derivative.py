"""What lets a training loss be differentiated twice."""
import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Run forwards whose result is differentiated twice.

    - Of torch's attention kernels only the plain one has a second derivative.
    - At 0, torch's second derivative of a square root, a norm or a standard deviation is NaN. A map of zeros, a channel
      that is constant or two equal maps are enough to get there. Here both derivatives at 0 are 0, and the direction of a
      vector of length 0 is a constant 0.
    """
    with sdpa_kernel(SDPBackend.MATH), _DifferentiableRoots():
        yield


class _DifferentiableRoots(TorchFunctionMode):
    """Replaces what has a square root at its end, for tensors in float32 or float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        replaced = _REPLACED.get(func)
        if replaced is not None and args and isinstance(args[0], Tensor) and args[0].dtype in (torch.float32, torch.float64):
            given = {key: value for key, value in (kwargs or {}).items() if value is not None}  # not dtype=None, out=None
            found = replaced(*args, **given)
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _root(x: Tensor, **kwargs):
    """The square root, with derivatives of 0 at 0. All replacements return None for calls that they do not cover."""
    if kwargs:
        return None
    at_zero = x == 0
    return torch.where(at_zero, 0, torch.where(at_zero, 1, x).sqrt())


def _norm(x: Tensor, p=2, dim=None, keepdim: bool = False, **kwargs):
    if p not in (2, 'fro', None) or kwargs:
        return None
    return _root(x.square().sum(dim, keepdim) if dim is not None or keepdim else x.square().sum())


def _vector_norm(x: Tensor, ord=2, dim=None, keepdim: bool = False, **kwargs):
    return _norm(x, ord, dim, keepdim, **kwargs)


def _deviation(x: Tensor, *args, **kwargs):
    return None if 'out' in kwargs else _root(torch.var(x, *args, **kwargs))


def _direction(input: Tensor, p=2, dim: int = 1, eps: float = 1e-12, **kwargs):
    if p != 2 or kwargs:
        return None
    length = _norm(input, 2, dim, True)
    return torch.where(length > eps, input / torch.where(length > eps, length, 1), 0)


_REPLACED: dict[Callable, Callable] = {
    torch.sqrt: _root, Tensor.sqrt: _root, torch.norm: _norm, Tensor.norm: _norm, torch.linalg.vector_norm: _vector_norm,
    torch.std: _deviation, Tensor.std: _deviation, F.normalize: _direction
}
