"""Refinement by the sign of the gradient."""
import copy
import math

import torch
from torch import Tensor

from ...checks import check_number
from .confirmation import SCATTER
from .searcher import Searcher, register_searcher
from .trial import Trial
from .trial_losses import ratio_of

HALF_STEP_AT = 0.25  # of the median absolute gradient
TINY = torch.finfo(torch.float32).tiny


@register_searcher
class RpropSearcher(Searcher):
    """Follows the gradient's sign from the best level, with a step length of its own at every knot and pathway.

    A trial is followed up to a loss of 1 + tolerance times the lowest. One that is worse, diverged or has no finite
    gradient is not: alpha goes back to the best trial's and takes half the step.

    Args:
        step_size (float): Longest step of alpha, > 0. Defaults to 0.7.
        tolerance (float): See above, >= 0. Defaults to 0.05.
        *args, **kwargs: Of :class:`Searcher`.

    Raises:
        ArgumentError: If ``step_size`` or ``tolerance`` is out of range.

    Note:
        Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993; steps are also
        shortened where the gradient is small against the median.
    """
    differentiates = True

    def __init__(self, *args, step_size: float = 0.7, tolerance: float = 0.05, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_number('step_size', step_size, above=0)
        check_number('tolerance', tolerance, least=0)
        self.tolerance = tolerance
        self.alpha = torch.zeros_like(self.initial, requires_grad=True)
        self.optimizer = torch.optim.Rprop([self.alpha], lr=step_size, step_sizes=(0, step_size))
        self._followed: dict | None = None  # best step: alpha, loss, gradient and the optimiser's state before its step
        self._next: Tensor | None = None

    def refine(self, step: int) -> Tensor:
        """Tensor: The best level again, to be differentiated, then where the gradient leads."""
        return self.base.clone() if self._next is None else self._next.clone()

    def _near(self, loss: float) -> bool:
        best = self._followed
        return math.isfinite(loss) and (best is None or loss <= best['loss'] + self.tolerance * abs(best['loss']))

    def wants_gradient(self, trial: Trial, loss: float) -> bool:
        """Whether a trial is one to follow; the last one is not, nor one after which the refinement ends."""
        if trial.kind != 'step' or self.steps_left <= 1 or not self._near(loss):
            return False
        ratio = ratio_of([*self._losses.of(trial, confirms=False), loss])
        return ratio is None or ratio <= SCATTER

    def tell(self, trial: Trial, loss: float, gradient: Tensor | None = None) -> None:
        """Report a trial and take a step of alpha; arguments as in :meth:`Searcher.tell`."""
        super().tell(trial, loss, gradient)
        if trial.kind != 'step' or self.steps_left <= 0:
            return
        here = self._followed
        if gradient is not None and gradient.isfinite().all():
            here = dict(alpha=trial.alpha, loss=trial.loss, gradient=gradient.detach().to(trial.alpha),
                        optimizer=copy.deepcopy(self.optimizer.state_dict()))
            if self._followed is None or trial.loss < self._followed['loss']:
                self._followed = here
        elif here is not None:
            for part in (*here['optimizer']['param_groups'], *here['optimizer']['state'].values()):
                length = 'lr' if 'lr' in part else 'step_size'
                part[length] = part[length] / 2
        self._next = trial.alpha if here is None else self._step_from(here)

    def _step_from(self, here: dict) -> Tensor:
        with torch.no_grad():
            self.alpha.copy_(here['alpha'])
        self.optimizer.load_state_dict(copy.deepcopy(here['optimizer']))
        self.alpha.grad = here['gradient'].clone()
        self.optimizer.step()
        self.alpha.grad = None
        size = here['gradient'].abs()  # Rprop follows the sign alone, which is chance where a weight hardly matters
        share = size / (size + HALF_STEP_AT * size.median() + TINY)
        return torch.lerp(here['alpha'], self.alpha.detach(), share)

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(super().state_dict(), followed=self._followed, next=self._next, optimizer=self.optimizer.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        self._followed, self._next = state['followed'], state['next']
        self.optimizer.load_state_dict(state['optimizer'])
