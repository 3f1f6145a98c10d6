# Imports mmpretrain only, as the networks do.

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from distpro.checks import FLAG, check_choice

from ...errors import ConfigError


@MODELS.register_module(force=True)
class NORMNeck(BaseModule):
    """The feature transform of NORM (ICLR 2023); in training, a part of the student between backbone and pooling.

    A 1x1 convolution with batch norm expands the last map to ``segments`` times the teacher's channels, a second one
    contracts it again, and the input is added. :class:`NORMLoss` compares every segment of the expanded map with the
    teacher's map. The neck has no activation, so after training it is merged into the classifier (:meth:`merge_into`), and
    the exported student has no neck.

    Args:
        in_channels (int): Channels of the student's last map.
        teacher_channels (int): Channels of the teacher's last map.
        segments (int): N of the paper. Defaults to 8, the paper's.
        residual (bool): Whether the input is added. Defaults to True, the paper's default.
        init_cfg (dict or list[dict], optional): Defaults to the release's: Kaiming normal for convolutions.

    Raises:
        ConfigError: If ``residual`` is neither True nor False.
    """

    def __init__(self, in_channels: int, teacher_channels: int, segments: int = 8, residual: bool = True,
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        check_choice('NORMNeck.residual', residual, FLAG, ConfigError)
        wide = segments * teacher_channels
        self.expand = nn.Sequential(nn.Conv2d(in_channels, wide, 1, bias=False), nn.BatchNorm2d(wide))
        self.contract = nn.Sequential(nn.Conv2d(wide, in_channels, 1, bias=False), nn.BatchNorm2d(in_channels))
        self.residual = residual

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        """Transform the last map [B, C, H, W]; the shape does not change."""
        x = inputs[-1] if isinstance(inputs, tuple) else inputs
        y = self.contract(self.expand(x))
        return (x + y if self.residual else y, )

    @torch.no_grad()
    def merge_into(self, linear: nn.Linear) -> None:
        """Merge this neck, in eval mode, into the classifier that follows it and the pooling.

        Args:
            linear (nn.Linear): The classifier; modified in place.
        """
        (first, first_bias), (second, second_bias) = _affine(self.expand), _affine(self.contract)
        matrix, offset = second @ first, second @ first_bias + second_bias
        if self.residual:
            matrix = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        weight = linear.weight.double()
        linear.bias += (weight @ offset).to(linear.bias.dtype)
        linear.weight.copy_(weight @ matrix)


def _affine(layer: nn.Sequential) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution and a batch norm in eval mode as a matrix and an offset, in double precision."""
    conv, bn = layer
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    matrix = scale[:, None] * conv.weight.flatten(1).double()
    return matrix, bn.bias.double() - scale * bn.running_mean.double()
