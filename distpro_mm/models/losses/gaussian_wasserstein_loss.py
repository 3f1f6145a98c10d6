import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import check_whole

from ...errors import ConfigError


@MODELS.register_module()
class GaussianWassersteinLoss(nn.Module):
    r"""WKD-F (Lv et al., NeurIPS 2024): Wasserstein distance of the Gaussians of two maps' positions.

    .. math:: r\, \lVert \mu_S - \mu_T \rVert^2 + \lVert \sigma_S - \sigma_T \rVert^2

    with the mean and the standard deviation of every channel over the positions of a map: the squared 2-Wasserstein distance
    of Gaussians with diagonal covariances, if r is 1. The mean over images, and over the cells of a grid of positions.

    Args:
        mean_ratio (float): r, factor of the means' term. Defaults to 4, the release's for resnet32x4-resnet8x4.
        grid (int): Cells of the map in each dimension, each with its own Gaussian. Defaults to 1, the release's for
            resnet32x4-resnet8x4.
        eps (float): Added to the variance. Defaults to 1e-5, the release's.
        loss_weight (float): Factor of the loss. Defaults to 0.08, the release's for resnet32x4-resnet8x4.

    Note:
        The variance is unbiased, as in the release. A cell of one position, for which the release gives NaN, has a variance
        of 0 here.
    """

    def __init__(self, mean_ratio: float = 4.0, grid: int = 1, eps: float = 1e-5, loss_weight: float = 0.08) -> None:
        super().__init__()
        check_whole('model.distiller.loss.grid', grid, error=ConfigError)
        self.mean_ratio, self.grid, self.eps, self.loss_weight = mean_ratio, grid, eps, loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's map, through a connector to the teacher's channels [B, C, H_s, W_s].
            t_feature (Tensor): The teacher's map [B, C, H_t, W_t].

        Returns:
            Tensor: The loss, a scalar.
        """
        (mean_s, std_s), (mean_t, std_t) = self._moments(s_feature), self._moments(t_feature)
        distance = self.mean_ratio * (mean_s - mean_t).square() + (std_s - std_t).square()
        return self.loss_weight * distance.sum(2).mean()

    def _moments(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the cells [B, cells, C]."""
        height, width = feature.shape[-2:]
        means, deviations = [], []
        for top, bottom in _bounds(height, self.grid):
            for left, right in _bounds(width, self.grid):
                cell = feature[..., top:bottom, left:right].flatten(2)
                means.append(cell.mean(2))
                deviations.append((cell.var(2, correction=int(cell.size(2) > 1)) + self.eps).sqrt())
        return torch.stack(means, 1), torch.stack(deviations, 1)


def _bounds(size: int, cells: int) -> list[tuple[int, int]]:
    """Begin and end of each cell, as torch's adaptive pooling has them."""
    return [(cell * size // cells, -(-(cell + 1) * size // cells)) for cell in range(cells)]
