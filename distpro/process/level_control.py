"""Starts a distillation again with lower weights if the student is worse than guessing."""
import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..processes import mean_of_processes

WORSE = 1.25  # times the loss of guessing
DIVISOR = 4  # a search of the level takes the same steps
WINDOW = 0.05  # share of the training, and the fewest steps, of a mean
LEAST = 20
EARLY = 0.3  # share of the training until which a student may be a little worse than guessing
END = 0.6  # share of the training after which there is no first new start
MOST = 3  # new starts
STATE = ('factor', '_from', '_steps', '_sums', '_initial', '_begun')


class LevelControl:
    """The factor of a process's weights, which is lowered where the student does not learn.

    The level of the weights that a student endures differs by two orders of magnitude between networks, so a process of
    another pair may be too high. Then the student's cross-entropy does not fall below that of guessing, log(number of
    classes), or it returns to it, where a process has its highest weights; and a student that has trained so does not
    recover. So the mean cross-entropy over 5% to 10% of the training is compared with that of guessing, and again after
    every further 5%: until 60% of the training, or, once it has started again, until its end, since the lower weights may be
    too high too. It starts again if the mean is not finite, or 25% higher or more, or, from 30% of a first start on, no
    lower: the student and the transforms get back their initial weights, the optimiser forgets its momentum, and all weights
    of the process are divided by 4. Learning rate and process continue from where they are. The next 5%, in which a student
    starts anew, do not count. There are at most three new starts.

    Args:
        modules (Sequence[nn.Module]): What is trained: the student, the transforms, losses with parameters.

    Attributes:
        factor (float): What the weights are multiplied by, 1 or less.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.factor = 1.0
        self._modules = tuple(modules)
        self._from, self._steps = WINDOW, 0
        self._sums: Tensor | None = None  # stay on the device between checks
        self._initial: list[dict[str, Any]] | None = None
        self._begun = self._checked = False

    def begin(self, progress: float) -> None:
        """Remember the weights that a new start begins with, before the first step; later forget them.

        Args:
            progress (float): Share of the training that is done, in [0, 1].
        """
        if self.is_over(progress):
            self._initial = None
        elif not self._begun:
            self._initial = [copy.deepcopy(module.state_dict()) for module in self._modules]
        self._begun = True

    def is_over(self, progress: float) -> bool:
        """Whether nothing is changed from this share of the training on."""
        return progress >= END and self.factor == 1

    def observe(self, progress: float, own: Tensor, guess: Tensor | float,
                optimizers: Sequence[torch.optim.Optimizer] = ()) -> str | None:
        """Note the losses of a step, and start again with a lower factor if that is due.

        Args:
            progress (float): Share of the training that is done before this step, in [0, 1].
            own (Tensor): The student's cross-entropy of this step, a scalar.
            guess (Tensor or float): That of a student that gives all classes the same probability.
            optimizers (Sequence[torch.optim.Optimizer]): Those of the training. Defaults to none.

        Returns:
            str, optional: A warning if the training starts again, else None.
        """
        if not self._checked:
            self._check(optimizers)
        if self._initial is None or self.is_over(progress) or progress < self._from:
            return None
        own = own.detach().float()
        losses = torch.stack([own, torch.as_tensor(guess, dtype=own.dtype, device=own.device)])
        self._sums = losses if self._sums is None else self._sums.to(losses) + losses
        self._steps += 1
        if self._steps < LEAST or progress < self._from + WINDOW:
            return None
        found, expected = (mean_of_processes(self._sums) / self._steps).tolist()
        limit = WORSE if self._from < EARLY or self.factor < 1 else 1
        self._from, self._steps, self._sums = progress, 0, None
        if found < limit * expected:
            return None
        return self.restart(progress, f"the student's cross-entropy of {found:.4g} is worse than guessing, {expected:.4g}",
                            optimizers)

    def _check(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Warn once if no optimiser has the parameters of a module."""
        self._checked = True
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        given = {id(parameter) for group in groups for parameter in group['params']}
        for module in self._modules if given else ():
            trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
            if trained and not trained & given:
                warnings.warn(f'no optimizer has a parameter of the {type(module).__name__}, which is not trained: give it '
                              '[*student.parameters(), *kd.parameters()]', stacklevel=4)

    def restart(self, progress: float, why: str, optimizers: Sequence[torch.optim.Optimizer] = ()) -> str | None:
        """Start again with a lower factor, if that may still happen.

        Args:
            progress (float): Share of the training that is done, in [0, 1].
            why (str): The reason, for the warning.
            optimizers (Sequence[torch.optim.Optimizer]): Those of the training. Defaults to none.

        Returns:
            str, optional: A warning if the training starts again; None after 60% of the training without a new start, and
            after three new starts.
        """
        if self._initial is None or self.is_over(progress) or self.factor <= DIVISOR**-MOST:
            return None
        self._from, self._steps, self._sums = progress + WINDOW, 0, None
        self.factor /= DIVISOR
        for module, state in zip(self._modules, self._initial):
            module.load_state_dict(state)
        for optimizer in optimizers:
            optimizer.state.clear()
            optimizer.zero_grad()  # with accumulated gradients, those of the steps before would be added to the next
        return (f'{progress:.0%} of the training is done, and {why}: the weights of the process are too high for this '
                'student. It starts again from its initial weights, and those of the process are multiplied by '
                f'{self.factor:g} from here on')

    def state_dict(self) -> dict:
        """dict: What a resumed training continues from, for :meth:`load_state_dict`."""
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state."""
        for name in STATE:
            setattr(self, name, state[name])
