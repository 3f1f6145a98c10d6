"""The cross-attention projector of ScaleKD, from the pixels of a student's map to those of a teacher's."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_whole
from ..errors import ArgumentError

HEAD_CHANNELS = 64  # of the teacher, for each head; the release has 48 to 128
SHARPNESS = 5.0


class CrossAttention(nn.Module):
    r"""Cross-attention from a query map, in the teacher's space, to a student's map (ScaleKD, NeurIPS 2024, section 3.2).

    With x the student's map after a 3x3 convolution, batch norm and ReLU, plus a learned position E, and q the query map
    after a 1x1 convolution and ReLU,

    .. math:: y = W_o\, \mathrm{softmax}(5\, d^{-1/2}\, W_q q\, (W_k x)^\top)\, W_v x, \qquad
              n = \mathrm{LayerNorm}(y), \qquad \mathrm{result} = n + W_2\, \mathrm{ReLU}(W_1 n)

    with the softmax over the student's pixels, in each head of d channels. W_1 has four times the teacher's channels.
    The formulas follow the release.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map and of the query map.
        in_size (Sequence[int]): Height and width of E. It is interpolated for maps of another size. Defaults to (7, 7).
        heads (int, optional): Number of heads, a divisor of ``out_channels``. Defaults to None: the largest divisor with
            at least 64 channels in each head.
        sharpness (float): The factor 5 of the release, > 0.

    Raises:
        ArgumentError: If ``heads`` or a size is out of range.
    """

    def __init__(self, in_channels: int, out_channels: int, in_size: Sequence[int] = (7, 7), heads: int | None = None,
                 sharpness: float = SHARPNESS) -> None:
        super().__init__()
        _check_size('in_size', in_size)
        most = max(1, out_channels // HEAD_CHANNELS)
        self.heads = max(n for n in range(1, most + 1) if out_channels % n == 0) if heads is None else heads
        check_whole('heads', self.heads)
        if out_channels % self.heads:
            raise ArgumentError(f'heads={heads} must divide out_channels={out_channels}')
        self.sharpness = sharpness
        self.feature = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.BatchNorm2d(in_channels), nn.ReLU())
        self.position = nn.Parameter(torch.empty(1, in_channels, *in_size))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.asked = nn.Sequential(nn.Conv2d(out_channels, out_channels, 1), nn.ReLU())
        self.queries = nn.Linear(out_channels, out_channels)
        self.keys, self.values = (nn.Linear(in_channels, out_channels) for _ in range(2))
        self.joined = nn.Linear(out_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels)
        self.wide = nn.Sequential(
            nn.Linear(out_channels, 4 * out_channels), nn.ReLU(), nn.Linear(4 * out_channels, out_channels))

    def forward(self, feature: Tensor, query: Tensor) -> Tensor:
        """Project a student's map.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            query (Tensor): The query map [B, C_t, H, W], or [1, C_t, H, W] for all images.

        Returns:
            Tensor: The projected map [B, C_t, H, W].
        """
        x = self.feature(feature)
        x = (x + interpolated(self.position, x.shape[2:])).flatten(2).transpose(1, 2)
        asked = self.asked(query).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for part in (self.queries(asked), self.keys(x), self.values(x)))  # [B, heads, pixels, d]
        # Plain products: torch's fused attention has no second derivative.
        attention = (q @ k.transpose(2, 3) * (self.sharpness * q.size(3)**-0.5)).softmax(3)
        y = self.norm(self.joined((attention @ v).transpose(1, 2).flatten(2)))
        return (y + self.wide(y)).transpose(1, 2).unflatten(2, query.shape[2:])


class CrossAttentionTransform(CrossAttention):
    """Cross-attention with a learned query map, ScaleKD's projector of its first level, as a transform of pathways.

    Parameter count for 64 teacher and 32 student channels, with the default sizes: 63,936.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        size (tuple[int, int], optional): Default height and width of the result. Defaults to None: those of the map.
        out_size (Sequence[int]): Height and width of the learned query map. It is interpolated for results of another
            size. Defaults to (7, 7).
        **kwargs: ``in_size``, ``heads`` and ``sharpness`` of :class:`CrossAttention`.

    Raises:
        ArgumentError: If an argument is out of range.
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int] | None = None,
                 out_size: Sequence[int] = (7, 7), **kwargs) -> None:
        _check_size('out_size', out_size)
        super().__init__(in_channels, out_channels, **kwargs)
        self.size = size
        self.query = nn.Parameter(torch.randn(1, out_channels, *out_size))

    def forward(self, feature: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Transform a student's map.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            size (tuple[int, int], optional): The teacher's H_t and W_t. Defaults to None: ``self.size``.

        Returns:
            Tensor: The transformed map [B, C_t, H_t, W_t].
        """
        size = size or self.size or feature.shape[2:]
        return super().forward(feature, interpolated(self.query, size))


def interpolated(x: Tensor, size: Sequence[int]) -> Tensor:
    """A map [1, C, H, W] at another size, linearly in both dimensions, as ``F.interpolate(mode='bilinear')``.

    By products with constant matrices, whose derivatives are deterministic on a GPU too.
    """
    for dim, length in zip((2, 3), size):
        if x.size(dim) != length:
            identity = torch.eye(x.size(dim), dtype=x.dtype, device=x.device)
            matrix = F.interpolate(identity[None], size=length, mode='linear')[0]  # [before, after]
            x = torch.tensordot(x, matrix, ([dim], [0])).movedim(3, dim)
    return x


def _check_size(name: str, size: Sequence[int]) -> None:
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise ArgumentError(f'{name}={size!r} must be a height and a width, two whole numbers from 1')
