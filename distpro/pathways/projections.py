"""Transforms that DistPro's release lacks: identity, linear and MLP, applied to each pixel.

They have the same call as the release's, ``transform(feature, size)``, and the same nearest-neighbour resize, but no
normalisation. Parameter counts are for 64 teacher and 32 student channels.
"""

from torch import nn

from ..checks import check_whole
from ..errors import ArgumentError
from .transforms import Transform


class IdentityTransform(Transform):
    """The student's map, resized. No parameters.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map; must equal ``in_channels``.
        **kwargs: ``size`` of :class:`Transform`.

    Raises:
        ArgumentError: If the channels differ.
    """

    def build(self, in_channels, out_channels, mid):
        if in_channels != out_channels:
            raise ArgumentError(f'in_channels={in_channels} and out_channels={out_channels} must be equal, because '
                                'IdentityTransform has no parameters: use LinearTransform, or remove the '
                                'pair from connections')
        return [], []


class LinearTransform(Transform):
    r"""A linear map of each pixel with a bias, resized. 2,112 parameters.

    NORM (ICLR 2023) compares N such maps with the teacher's map, and the student continues from these maps. A pathway does
    not need N maps: for squared errors, and so for HCL, with :math:`\bar W` the mean of the N matrices,

    .. math:: \frac1N \sum_n \lVert W_n f - t \rVert^2
        = \lVert \bar W f - t \rVert^2 + \frac1N \sum_n \lVert (W_n - \bar W) f \rVert^2

    which is one linear map, plus a penalty on the differences between the N matrices.
    """

    def build(self, in_channels, out_channels, mid):
        return [nn.Conv2d(in_channels, out_channels, 1)], []


class MLPTransform(Transform):
    """A two-layer perceptron on each pixel, with biases and a GELU, resized. 6,272 parameters.

    A common projection for the tokens of a transformer.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        hidden_channels (int, optional): Width between the layers, >= 1. Defaults to None: ``out_channels``, the minimum for
            an output of full rank.
        **kwargs: ``size`` of :class:`Transform`.

    Raises:
        ArgumentError: If ``hidden_channels`` is not such a number.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int | None = None, **kwargs) -> None:
        if hidden_channels is not None:
            check_whole('hidden_channels', hidden_channels)
        self.hidden_channels = hidden_channels
        super().__init__(in_channels, out_channels, **kwargs)

    def build(self, in_channels, out_channels, mid):
        hidden = self.hidden_channels or out_channels
        return [nn.Conv2d(in_channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, out_channels, 1)], []
