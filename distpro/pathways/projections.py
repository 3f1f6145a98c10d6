"""Transforms that DistPro's release lacks: none at all, a linear one, and a perceptron, each pixel by itself.

They have the call of the release's, ``transform(feature, size)``, and its nearest-neighbour resize; none normalises.
Parameter counts are for 64 teacher and 32 student channels.
"""
from typing import Optional

from torch import nn

from ..errors import ArgumentError
from .transforms import Transform


class IdentityTransform(Transform):
    """The student's map as it is, resized. No parameters.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map: as many.
        **kwargs: ``size`` of :class:`Transform`.

    Raises:
        ArgumentError: If the channels differ.
    """

    def build(self, in_channels, out_channels, mid):
        if in_channels != out_channels:
            raise ArgumentError(f'in_channels={in_channels} and out_channels={out_channels} must be equal, since '
                                'IdentityTransform has no parameters: use LinearTransform, or leave the '
                                'pair out of connections')
        return [], []


class LinearTransform(Transform):
    r"""A linear map of each pixel with a bias, resized. 2,112 parameters.

    What NORM (ICLR 2023) compares is such a map too, but N times as wide, and every segment of it with the teacher's map.
    That shapes a student which goes on from the wide map, as :class:`NORMNeck`'s does. In a pathway it adds nothing: for
    squared errors, and so for HCL, with :math:`\bar W` the mean of the segments' maps,

    .. math:: \frac1N \sum_n \lVert W_n f - t \rVert^2
        = \lVert \bar W f - t \rVert^2 + \frac1N \sum_n \lVert (W_n - \bar W) f \rVert^2

    which is one linear map, and a penalty on N copies of it that differ. So there is one.
    """

    def build(self, in_channels, out_channels, mid):
        return [nn.Conv2d(in_channels, out_channels, 1)], []


class MLPTransform(Transform):
    """A perceptron of two layers on each pixel, with biases and GELU between, resized. 6,272 parameters.

    The projection that is usual before the tokens of a transformer.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        hidden_channels (int, optional): Width between the layers, 1 or more. Defaults to None: ``out_channels``, the
            least that leaves no direction of the teacher's map out of reach.
        **kwargs: ``size`` of :class:`Transform`.

    Raises:
        ArgumentError: If ``hidden_channels`` is no such number.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: Optional[int] = None, **kwargs) -> None:
        if hidden_channels is not None and (not isinstance(hidden_channels, int) or hidden_channels < 1):
            raise ArgumentError(f'hidden_channels={hidden_channels!r} must be a whole number from 1')
        self.hidden_channels = hidden_channels
        super().__init__(in_channels, out_channels, **kwargs)

    def build(self, in_channels, out_channels, mid):
        hidden = self.hidden_channels or out_channels
        return [nn.Conv2d(in_channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, out_channels, 1)], []
