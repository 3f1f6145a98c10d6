"""The variances of the teacher's features, which features are divided by in the unit 'variance'."""
import math
import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..processes import mean_of_processes


class TeacherVariances:
    """The variance of each transmitting layer's feature, measured on the first batch on which it is a number.

    Args:
        layers (Sequence[str]): Names of the transmitting layers.

    Attributes:
        values (Tensor): Variance of each layer; 0 if not measured, infinite if the feature is constant.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.values = torch.zeros(len(layers))
        self._index = {name: index for index, name in enumerate(layers)}
        self._constant: dict[str, bool] = {}  # by measured layer; on the host, where the losses are put together

    def measure(self, features: dict[str, Tensor], names: Iterable[str]) -> None:
        """Measure the named layers that have not been measured; warns once if the features of some are constant.

        Args:
            features (dict[str, Tensor]): The teacher's features [B, C, H, W] by layer.
            names (Iterable[str]): Layers; others than transmitting ones are skipped.
        """
        new = [name for name in dict.fromkeys(names) if name in self._index and name not in self._constant]
        for name in new:
            self.values[self._index[name]] = variance = variance_of(features[name])
            if not variance.isnan():  # else the batch is broken, and the next one is measured
                self._constant[name] = bool(variance.isinf())
        constant = [name for name in new if self.is_constant(name)]
        if constant:
            warnings.warn(f"transmitters: the teacher's feature is constant at {', '.join(constant)}, so the pathways from "
                          'there have no weight: choose other layers, or load the weights of a trained teacher',
                          stacklevel=4)

    def deviation(self, name: str) -> Tensor:
        """Tensor: The standard deviation of a layer's feature; infinite if it is constant."""
        return self.values[self._index[name]].sqrt()

    def is_constant(self, name: str) -> bool:
        """Whether the measured feature of a layer is constant; False if it has not been measured."""
        return self._constant.get(name, False)

    def load(self, values: Tensor) -> None:
        """Load the variances of a checkpoint; a layer that is not measured there does not change."""
        values = values.to(self.values)
        self.values = torch.where(values > 0, values, self.values)
        self._constant.update({name: math.isinf(value) for name, value in zip(self._index, values.tolist()) if value > 0})


@torch.no_grad()
def variance_of(feature: Tensor) -> Tensor:
    """Mean variance of the channels of maps [B, C, H, W], over all processes.

    Infinite for a constant map, whose standard deviation is at most 1e-6 or a thousandth of its root mean square: its
    variation is mostly rounding, and a division by it may overflow. NaN if the mean square is not finite.
    """
    feature = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
    mean, square = feature.mean((0, 2, 3)), feature.square().mean((0, 2, 3))
    mean, square = mean_of_processes(mean), mean_of_processes(square)
    variance, square = (square - mean.square()).mean(), square.mean()
    variance = torch.where(variance <= (1e-6 * square).clamp(min=1e-12), torch.inf, variance)
    return torch.where(square.isfinite(), variance, torch.nan)
