"""Forms of a loss of two maps: transformations without parameters one after the other, and a distance.

The operators are of the kinds that KD-Zero (NeurIPS 2023) and Auto-KD (ICCV 2023) search over: attention, several scales,
local patches, Gram matrices, norms, softmax and activations; l1, l2, KL, cosine and correlation. Neither has published its
code, so the definitions here are reconstructions, after the papers' abstracts and the common meaning of the names.
"""
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_choice, check_number
from ..errors import ArgumentError
from .maps import adaptive_average

TEMPERATURE = 0.5  # of the attentions
LIMIT = 1e6  # of a loss and of its gradient's norm for features of deviation 10
DIMS = dict(channels=(1, ), positions=(2, 3), images=(0, ))

Operation = Callable[..., Tensor]


def _softmax(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return (x - x.logsumexp(dims, keepdim=True)).exp()


def _attention(x: Tensor, over: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Softmax over ``dims``, times their number, of the mean absolute value over the dimensions ``over``."""
    mean = x.abs().mean(over, keepdim=True) if over else x
    return math.prod(mean.shape[dim] for dim in dims) * _softmax(mean / TEMPERATURE, dims)


def _gram(x: Tensor) -> Tensor:
    """Products of the rows of [B, n, m], divided by m: [B, 1, n, n]."""
    return (x @ x.transpose(1, 2) / x.size(2))[:, None]


def _patches(x: Tensor, size: int) -> Tensor:
    """Patches of size x size pixels as channels; what is left at the edges is cut off."""
    rows, columns = (min(size, side) for side in x.shape[2:])
    x = x[:, :, :x.size(2) // rows * rows, :x.size(3) // columns * columns]
    x = x.unflatten(2, (-1, rows)).unflatten(4, (-1, columns))
    return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _pooled(x: Tensor, size: int) -> Tensor:
    return adaptive_average(x, [min(size, side) for side in x.shape[2:]])


TRANSFORMATIONS: dict[str, Operation] = {  # [B, C, H, W] to four dimensions
    'none': lambda x: x,
    'spatial_attention': lambda x: _attention(x, (1, ), (2, 3)),
    'channel_attention': lambda x: _attention(x, (2, 3), (1, )),
    'batch_attention': lambda x: _attention(x, (), (0, )),
    **{f'pool_{size}': lambda x, size=size: _pooled(x, size) for size in (1, 2, 4)},
    **{f'patches_{size}': lambda x, size=size: _patches(x, size) for size in (2, 4)},
    'batch_gram': lambda x: _gram(x.flatten(1)[None]),
    'channel_gram': lambda x: _gram(x.flatten(2)),
    'position_gram': lambda x: _gram(x.flatten(2).transpose(1, 2)),
    **{f'norm_{name}': lambda x, dims=dims: x / x.square().sum(dims, keepdim=True).add(1e-12).sqrt()
       for name, dims in DIMS.items()},
    **{f'softmax_{name}': lambda x, dims=dims: _softmax(x, dims) for name, dims in DIMS.items()},
    **{f'log_softmax_{name}': lambda x, dims=dims: x - x.logsumexp(dims, keepdim=True) for name, dims in DIMS.items()},
    'standardize': lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt(),
    'min_max': lambda x: (x - x.amin((1, 2, 3), keepdim=True)) / (
        x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True) + 1e-6),
    'abs': torch.abs, 'square': torch.square, 'sqrt': lambda x: (x.abs() + 1e-6).sqrt(),
    'log': lambda x: (x.abs() + 1e-6).log(), 'exp': torch.exp, 'sigmoid': torch.sigmoid, 'tanh': torch.tanh,
    'relu': torch.relu,
}


def _kl(s: Tensor, t: Tensor, tau: float) -> Tensor:
    """Divergence of the softmax over all entries of an image, times the squared temperature."""
    log_q, log_p = ((x.flatten(1) / tau).log_softmax(1) for x in (s, t))
    return tau**2 * F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)


def _cosine(s: Tensor, t: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(s.flatten(1), t.flatten(1)).mean()


def _pearson(s: Tensor, t: Tensor) -> Tensor:
    s, t = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (s, t))
    return _cosine(s, t)


DISTANCES: dict[str, Operation] = {
    'l1': F.l1_loss, 'l2': F.mse_loss, 'smooth_l1': F.smooth_l1_loss,
    **{f'kl_{tau}': lambda s, t, tau=tau: _kl(s, t, tau) for tau in (1, 4, 8)}, 'cosine': _cosine, 'pearson': _pearson,
}


class FormLoss(nn.Module):
    """The distance of two maps after the same transformations.

    Args:
        transformations (Sequence[str]): Names in :data:`TRANSFORMATIONS`, applied in order. Defaults to none.
        distance (str): A name in :data:`DISTANCES`. Defaults to 'l2'.
        loss_weight (float): Factor of the loss, >= 0. Defaults to 1.

    Raises:
        ArgumentError: If a name is unknown, or the weight is out of range.
    """

    def __init__(self, transformations: Sequence[str] = (), distance: str = 'l2', loss_weight: float = 1.0) -> None:
        super().__init__()
        if not isinstance(transformations, (list, tuple)):
            raise ArgumentError(f'transformations={transformations!r} must be a list of names')
        for name in transformations:
            check_choice('transformations', name, tuple(TRANSFORMATIONS))
        check_choice('distance', distance, tuple(DISTANCES))
        check_number('loss_weight', loss_weight, least=0)
        self.transformations, self.distance, self.loss_weight = tuple(transformations), distance, loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's map [B, C, H, W].
            t_feature (Tensor): The teacher's map, of the same shape.

        Returns:
            Tensor: The loss, a scalar.
        """
        for name in self.transformations:
            s_feature, t_feature = map(TRANSFORMATIONS[name], (s_feature, t_feature))
        return self.loss_weight * DISTANCES[self.distance](s_feature, t_feature)


def problem_of(loss: nn.Module) -> str | None:
    """Why a loss of two maps cannot train a student, without a training: the rejection of candidates of KD-Zero.

    The loss is computed on random maps of deviation 1 and 10, always the same ones.

    Args:
        loss (nn.Module): The loss.

    Returns:
        str: 'not finite'; 'constant', if the gradient vanishes; or 'explodes', if the loss or its gradient's norm exceeds
        1e6. None if there is no such problem.
    """
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 6, 8, 4, 4, generator=generator, dtype=torch.float64)
    for deviation in (1.0, 10.0):
        feature = (deviation * student).requires_grad_()
        value = loss(feature, deviation * teacher)
        gradient, = torch.autograd.grad(value, feature, allow_unused=True) if value.requires_grad else (None, )
        value = value.detach()
        norm = 0.0 if gradient is None else float(gradient.norm())
        if not math.isfinite(float(value)) or not math.isfinite(norm):
            return 'not finite'
        if max(abs(float(value)), norm) > LIMIT:
            return 'explodes'
        if deviation == 1 and norm <= 1e-9 * max(abs(float(value)), 1e-9):
            return 'constant'
    return None
