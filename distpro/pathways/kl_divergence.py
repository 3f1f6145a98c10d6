"""The distance of logits in knowledge distillation."""
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_number


class KLDivergence(nn.Module):
    """Kullback-Leibler divergence of softened class probabilities, times the squared temperature.

    Args:
        tau (float): Temperature, > 0. Defaults to 4.

    Raises:
        ArgumentError: If ``tau`` is out of range.

    Note:
        Source: Hinton et al., "Distilling the knowledge in a neural network", 2015.
    """

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__()
        check_number('tau', tau, above=0)
        self.tau = tau

    def forward(self, s_logits: Tensor, t_logits: Tensor) -> Tensor:
        """Tensor: The mean over the images, a scalar, of the student's and the teacher's logits [B, K]."""
        target = F.softmax(t_logits.detach() / self.tau, dim=1)
        return self.tau**2 * F.kl_div(F.log_softmax(s_logits / self.tau, dim=1), target, reduction='batchmean')
