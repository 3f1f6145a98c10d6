import copy
import functools
import math
from typing import Dict, List, Optional, Tuple, Union

import numpy as np
import torch
from cmaes import CMA
from mmengine.dist import all_reduce, all_reduce_params, broadcast, get_rank
from mmengine.optim import OptimWrapperDict
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmrazor.engine import StopDistillHook
from mmrazor.registry import LOOPS
from torch import Tensor
from torch.utils.data import DataLoader

from ...datasets import seed_all
from ...errors import ConfigError, first_line, is_number
from ...process import DistillationProcess
from ...search import Step, Trajectory, untouched
from ..hooks import DistillWarmUpHook, WholeRunRecordHook
from .reproducible_train_loop import endless, start_at
from .search_loop import SearchLoop, usable

MOVES = ('derivative', 'random', 'evolution')
POPULATION = 7  # rounds of a generation, which costs nearly as much as the default search, two of whose rounds are derived
# What changes the training loss from epoch to epoch, of which a derivative at the end of a round would know nothing.
CHANGING = (StopDistillHook, DistillWarmUpHook, SwitchRecipeHook)
HALF_STEP_AT = 0.25  # of the median derivative
TINY = torch.finfo(torch.float32).tiny


@LOOPS.register_module()
class DistProWholeRunLoop(SearchLoop):
    """Searches a distillation process with sight to the end of the run.

    The student is trained in several rounds, each a whole short run from the same initial weights with a schedule of its
    own. A process of a few knots is replayed in it; at its end the held-out loss is differentiated back through every
    step of the round (see :class:`distpro_mm.search.Trajectory`), and alpha at each knot takes a step of Rprop. So a weight
    is judged by what it does to the trained student, and not to the next step, as in :class:`DistProSearchLoop`. A round
    that ends with a loss far above the best one's, or whose training diverges, is not followed: alpha goes back to the best
    one's and takes half the step. The process of the round with the lowest held-out loss is the result.

    Weights that are too high make training chaotic, and then derivatives say little. So where the first step is no
    improvement, or already the first round diverges, the search begins again, with ``rise`` lower by 1, down to constant
    weights, and with all its rounds.

    A round costs about four times its training: the run, and for each step one pass through its second derivative; a round
    that is not followed, and the last one, cost the run alone. The steps of a round are kept in memory; what does not fit is
    taken again in parts, which costs one more training.

    A search that is resumed goes on at the beginning of the round that was broken off.

    Args:
        runner (Runner): The runner; ``optim_wrapper`` and ``param_scheduler`` are those of an ordinary training of
            ``max_epochs``.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of a round.
        rounds (int): Rounds, >= 1, from where the search begins, or last began again. After the last one alpha is not moved
            any more. Defaults to 3.
        knots (int): Moments of the run, evenly spaced, at which alpha is free, >= 2; the weights are interpolated between
            them. Defaults to 4.
        rise (float): How much higher than at its initial value alpha begins, in the first round, at all knots but the first
            and the last, for every pathway. With weights exp(alpha) the default begins with 1 at the ends of the run and
            20 between. 0: constant weights. Lowered where it proves too high. Defaults to 3.
        step_size (float): Longest step of alpha at every knot, > 0. Rprop halves it where the derivative's sign turns, and
            lengthens it by 1.2 again while it stays; where the derivative is small against the median of all it is
            shorter. Defaults to 0.7.
        tolerance (float): A round is followed up to a held-out loss of 1 + tolerance times the lowest, >= 0: short trainings
            scatter. Defaults to 0.05.
        max_growth (float): Bound on the derivative's growth on its way back, in lengths of the held-out loss's gradient at
            the end, > 0: where training is chaotic, as at its start with high weights, what lies far ahead cannot be
            told. Defaults to 2.
        moves (str): 'derivative'; or, for what has no second derivative, by the held-out losses of whole rounds alone,
            which need more ``rounds``, such as 22: 'evolution', CMA-ES (the package ``cmaes``) over one number for each
            knot and one for each pathway, which add to the first round's alpha; 'random', as a control: that alpha and
            normal numbers of standard deviation 1, one for each knot, each pathway and both. Defaults to 'derivative'.
        memory (float): GiB for the steps that are kept, > 0. Defaults to 4.
        **kwargs: Of :class:`SearchLoop`: ``held_out``, ``held_out_dataloader``, ``agreement``, ``cost_penalty``; and of
            mmengine's ``EpochBasedTrainLoop``. The model is validated after the last round alone.

    Raises:
        ConfigError: If the config cannot be searched with; names the key.
    """
    record_hook = WholeRunRecordHook

    def __init__(self,
                 runner,
                 dataloader: Union[DataLoader, Dict],
                 max_epochs: int,
                 rounds: int = 3,
                 knots: int = 4,
                 rise: float = 3.0,
                 step_size: float = 0.7,
                 tolerance: float = 0.05,
                 max_growth: float = 2.0,
                 moves: str = 'derivative',
                 memory: float = 4.0,
                 **kwargs) -> None:
        for name, value, least in (('rounds', rounds, 1), ('knots', knots, 2), ('max_epochs', max_epochs, 1)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f'train_cfg.{name}={value!r} must be a whole number from {least}')
        for name, value in (('step_size', step_size), ('max_growth', max_growth), ('memory', memory)):
            if not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f'train_cfg.{name}={value!r} must be a number above 0')
        if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
            raise ConfigError(f'train_cfg.tolerance={tolerance!r} must be a number, 0 or more')
        if not is_number(rise):
            raise ConfigError(f'train_cfg.rise={rise!r} must be a finite number, such as 0 for constant weights at first')
        if moves not in MOVES:
            raise ConfigError(f"train_cfg.moves={moves!r} is not one of {', '.join(MOVES)}")
        if moves == 'evolution' and rounds < POPULATION + 2:
            raise ConfigError(f"train_cfg.rounds={rounds} with moves='evolution' ends before the first generation of "
                              f'{POPULATION} has been judged: give more, such as 22')
        self.moves = moves
        constructor = runner.optim_wrapper.get('constructor') if isinstance(runner.optim_wrapper, dict) else None
        if isinstance(runner.optim_wrapper, OptimWrapperDict) or 'DistPro' in str(constructor):
            raise ConfigError('optim_wrapper.constructor: DistProWholeRunLoop moves alpha itself (train_cfg.step_size): '
                              'give the optim_wrapper of an ordinary training')
        for hook in runner.hooks:
            if self.differentiates and isinstance(hook, CHANGING):
                raise ConfigError(f'custom_hooks: {type(hook).__name__} changes the training loss during a round, which a '
                                  'search by whole rounds does not know: remove it for the search')
        super().__init__(runner, dataloader, rounds * max_epochs, **kwargs)
        if self.differentiates and self.model.distiller.compile_transforms:
            raise ConfigError('model.distiller.compile_transforms=True: what is compiled has no second derivative; leave it '
                              'out for the search (the distillation may have it)')
        self.epochs = max_epochs
        self.tolerance, self.max_growth, self.memory = tolerance, max_growth, memory
        self.iterations = max_epochs * len(self.dataloader)  # of a round
        runner.param_schedulers = self._of_a_round(runner.param_schedulers)
        self.settings = dict(rounds=rounds, max_epochs=max_epochs, knots=knots, rise=rise, step_size=step_size, moves=moves,
                             agreement=self.agreement, cost_penalty=self.cost_penalty)
        self.history: List[dict] = []  # of the rounds that are done, alpha [knots, N] and the held-out loss
        self._initial: Optional[dict] = None
        self._begin(rise)

    def _begin(self, rise: float) -> None:
        """Let the search begin, or begin again, with weights that are higher inside the run than at its ends."""
        knots, step_size = self.settings['knots'], self.settings['step_size']
        initial = self.model.distiller.alpha.detach()
        inner = initial.new_ones(knots, 1)
        inner[[0, -1]] = 0
        self.alpha = (initial.repeat(knots, 1) + rise * inner).requires_grad_()
        self.optimizer = torch.optim.Rprop([self.alpha], lr=step_size, step_sizes=(0, step_size))
        self._best: Optional[dict] = None  # round since then: loss and alpha, and its gradient and optimiser's state
        self._expect(rise, len(self.history))

    def _expect(self, rise: float, first: int) -> None:
        """Rounds from the first one of this beginning on."""
        self._rise, self._first = rise, first
        self.rounds = first + self.settings['rounds']
        self._max_epochs = self.val_begin = self.rounds * self.epochs
        self._max_iters = self._max_epochs * len(self.dataloader)

    def _of_a_round(self, schedulers: Union[None, dict, list]) -> Union[None, list]:
        """Schedules that end, where they do not say when, with a round."""
        if schedulers is None:
            return None
        listed = [schedulers] if isinstance(schedulers, dict) else list(schedulers)
        if not all(isinstance(schedule, dict) and 'type' in schedule for schedule in listed):
            raise ConfigError('param_scheduler: a search in rounds takes those of an ordinary training, a dict or a list of '
                              f'dicts with type, got {schedulers}')
        return [dict(dict(end=self.epochs if schedule.get('by_epoch', True) else self.iterations), **schedule)
                for schedule in listed]

    @property
    def differentiates(self) -> bool:
        """bool: Whether training steps are differentiated."""
        return self.moves == 'derivative'

    @property
    def sweeps(self) -> bool:
        """bool: Whether the present round is differentiated at its end."""
        return self.differentiates and len(self.history) < self.rounds - 1

    def weights(self) -> Tensor:
        """Tensor: The weights of all iterations of a round [iterations, N], differentiable in alpha."""
        knots = torch.stack([self.model.distiller.weighting(alpha) for alpha in self.alpha])
        places = torch.linspace(0, len(knots) - 1, self.iterations, device=knots.device)
        before = places.floor().long().clamp(max=len(knots) - 2)
        share = (places - before).to(knots)[:, None]
        return (1 - share) * knots[before] + share * knots[before + 1]

    def process(self) -> Optional[DistillationProcess]:
        """The process of the best round so far; None before the first one is done."""
        done = [done for done in self.history if math.isfinite(done['loss'])]
        if not done:
            return None
        moments = [knot / (len(self.alpha) - 1) for knot in range(len(self.alpha))]
        distiller = self.model.distiller
        return DistillationProcess(distiller.names, distiller.weighting, moments,
                                   min(done, key=lambda done: done['loss'])['alpha'], layers=distiller.layer_names)

    def start(self) -> None:
        """Make ready for :meth:`step`, at the beginning of a round."""
        self._epoch -= self._epoch % self.epochs
        self._iter = self._epoch * len(self.dataloader)
        self.trajectory = None
        if self.differentiates:
            self.trajectory = Trajectory(dict(self.model.named_parameters()), usable(self.runner.optim_wrapper).optimizer,
                                         functools.partial(all_reduce_params, op='mean'))
        self._price = self.price()

    def stop(self) -> None:
        """Leave the optimiser as it was, and end the held-out loader's workers."""
        if self.trajectory is not None:
            self.trajectory.close()
        super().stop()

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(settings=self.settings, alpha=self.alpha.detach(), optimizer=self.optimizer.state_dict(),
                    history=self.history, best=self._best, initial=self._initial, rise=self._rise, first=self._first)

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave.

        Raises:
            ConfigError: If it is of another search.
        """
        if state['settings'] != self.settings or state['alpha'].shape != self.alpha.shape:
            raise ConfigError(f'the checkpoint is of a search with {state["settings"]} and {state["alpha"].shape[1]} '
                              f'pathways, and train_cfg has {self.settings} and model.distiller {self.alpha.shape[1]}: '
                              'resume with the config of the search')
        self._set_alpha(state['alpha'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.history, self._best, self._initial = state['history'], state['best'], state['initial']
        self._expect(state['rise'], state['first'])

    def run_epoch(self) -> None:
        """Iterate an epoch; the first one of a round begins with the initial weights."""
        if self._epoch % self.epochs == 0:
            self._begin_round()
        super().run_epoch()

    def _begin_round(self) -> None:
        """Give model, optimiser and schedules back what they had before the first round."""
        if self._initial is None:
            self._initial = self._state()
        self._set_state(self._initial)
        if self.trajectory is not None:
            self.trajectory.steps.clear()
        self._parts: List[Tuple[int, dict]] = []  # of the round: the first iteration, and the state before it
        self._settings: List[List[dict]] = []  # of the optimiser, by iteration
        self._diverged = False
        self._must_succeed = self._best is None and self._rise <= 0  # there is nothing lower to begin with
        with torch.no_grad():
            self._weights = self.weights()

    def _state(self) -> dict:
        """A copy in main memory of all that a step changes."""
        runner = self.runner
        model = {name: value for name, value in self.model.state_dict().items() if not name.startswith('teacher.')}
        return _copied(dict(model=model, optimizer=runner.optim_wrapper.state_dict(),
                            schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers or []]))

    def _set_state(self, state: dict) -> None:
        state = copy.deepcopy(state)  # optimiser and schedules would go on with the very same objects
        self.model.load_state_dict(state['model'], strict=False)
        self.runner.optim_wrapper.load_state_dict(state['optimizer'])
        for scheduler, own in zip(self.runner.param_schedulers or [], state['schedulers']):
            scheduler.load_state_dict(own)

    def step(self, data_batch: dict) -> dict:
        """One training step of the student, kept for the way back.

        Args:
            data_batch (dict): The training batch.

        Returns:
            dict: Losses by name.
        """
        if self._diverged:  # what is left of the round is passed over
            return dict(loss=torch.tensor(math.nan))
        if self.sweeps:
            if not self._parts or self._full():
                self.trajectory.steps.clear()
                self._parts.append((self._iter % self.iterations, self._state()))
            self._settings.append([{key: value for key, value in group.items() if key != 'params'}
                                   for group in self.runner.optim_wrapper.param_groups])
        outputs = self._train_step(self._iter, data_batch)
        not_finite = (~torch.isfinite(outputs['loss'].detach())).float()
        all_reduce(not_finite, op='max')  # processes pass over the rest of a round together
        self._diverged = bool(not_finite)
        if self._must_succeed:
            self.check_finite(math.nan if self._diverged else 0., 'the training loss')
        if self._iter == 0 and self.sweeps:
            self._try_sweep()
        return outputs

    def _try_sweep(self) -> None:
        """Go back through the first step at once: what cannot be differentiated must not show after a whole round."""
        kept = list(self.trajectory.steps)
        try:
            with untouched(self.model), self._full_precision():
                self.trajectory.start([self.held_out_loss(next(iter(start_at(self.held_out_dataloader, 0, 0))))])
                if kept:  # else a loss scaler skipped the step
                    self.trajectory.sweep(self._training_loss)
        except (NotImplementedError, RuntimeError) as error:
            raise ConfigError('train_cfg.type=DistProWholeRunLoop differentiates training steps, and something in the '
                              'student, the transforms or the losses has no second derivative; use DistProSearchLoop, or '
                              f"moves='evolution' with more rounds, which need none ({first_line(error)})") from error
        self.trajectory.steps = kept

    def _full(self) -> bool:
        steps = self.trajectory.steps
        return bool(steps) and (len(steps) + 1) * _bytes(steps[-1]) > self.memory * 2**30

    def _full_precision(self) -> torch.autocast:
        return torch.autocast(self._weights.device.type, enabled=False)

    def _train_step(self, iteration: int, data_batch: dict) -> dict:
        weights = self._weights[iteration % self.iterations]
        self.model.distiller.set_weights(weights)
        if self.sweeps:
            self.trajectory.keep((iteration, data_batch), weights)
        seed_all(self.runner.seed, get_rank(), iteration)  # hooks may have drawn random numbers
        return self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)

    def end_epoch(self) -> None:
        """After a round, measure the held-out loss and move alpha down its derivative, unless it was the last round."""
        if self._iter % self.iterations:
            return
        with untouched(self.model), self._full_precision():
            seed_all(self.runner.seed, get_rank(), self._iter, 1)
            loss = math.nan if self._diverged else self._measure()
            if self._price is not None:
                loss += (self._price.to(self._weights) * self._weights.mean(0)).sum().item()
            if self._must_succeed:
                self.check_finite(loss, 'the held-out loss')
            finite, best = math.isfinite(loss), self._best
            better = finite and (best is None or loss < best['loss'])
            near = better or finite and loss <= best['loss'] + self.tolerance * abs(best['loss'])
            told = f'held-out loss {loss:.4f}' if finite else 'training diverged'
            lowest = finite and not any(done['loss'] <= loss for done in self.history)
            self.runner.logger.info(f'Round {len(self.history) + 1} of {self.rounds}: {told}' +
                                    ', the lowest so far' * lowest)
            here = dict(loss=loss, alpha=self.alpha.detach().clone(), optimizer=copy.deepcopy(self.optimizer.state_dict()))
            sweeps, first_step = self.sweeps, self.differentiates and len(self.history) == self._first + 1
            misled = first_step and self._rise > 0 and not better
            if near and sweeps and not misled:
                here['gradient'] = self._gradient(self._derivatives())
                near = bool(here['gradient'].isfinite().all())
                if self._must_succeed:
                    self.check_finite(here['gradient'], "the held-out loss's gradient with respect to alpha")
            self.history.append(dict(alpha=self.alpha.detach().tolist(), loss=loss))
            if better and (near or not sweeps):
                self._best = here
            if misled or self._best is None:  # at rise=0 there is a best one, or the search has stopped
                lower = max(self._rise - 1, 0)
                self.runner.logger.info(f'rise={self._rise:g} is too high: the search begins again, with rise={lower:g}')
                self._begin(lower)
            elif sweeps:
                self._move_alpha(here if near else _with_half_the_step(best))
            elif not self.differentiates and len(self.history) < self.rounds:
                self._move_from_first(self._drawn() if self.moves == 'random' else self._bred())

    def _measure(self) -> float:
        """The held-out loss, of all held-out images; the way back begins there."""
        losses = (self.held_out_loss(batch) for batch in start_at(self.held_out_dataloader, 0, 0))
        if self.trajectory is not None:
            return self.trajectory.start(losses)
        with torch.no_grad():
            mean = torch.stack(list(losses)).mean()
        all_reduce(mean, op='mean')
        return mean.item()

    def _gradient(self, derivatives: Tensor) -> Tensor:
        """By alpha [knots, N], of the derivatives by the weights of all iterations."""
        if self._price is not None:
            derivatives = derivatives + self._price.to(derivatives) / self.iterations
        return torch.autograd.grad((self.weights() * derivatives).sum(), self.alpha)[0]

    def _move_alpha(self, done: dict) -> None:
        """A step of alpha from where a round had it."""
        before, gradient = (done[part].to(self.alpha) for part in ('alpha', 'gradient'))  # a checkpoint's are on the CPU
        self._set_alpha(before)
        self.optimizer.load_state_dict(copy.deepcopy(done['optimizer']))
        self.alpha.grad = gradient.clone()
        self.optimizer.step()
        size = gradient.abs()  # Rprop goes by the sign alone, which is chance where a weight hardly matters
        self._set_alpha(torch.lerp(before, self.alpha.detach(), size / (size + HALF_STEP_AT * size.median() + TINY)))
        self.alpha.grad = None

    def _set_alpha(self, alpha: Tensor) -> None:
        with torch.no_grad():
            self.alpha.copy_(alpha)

    def _drawn(self) -> np.ndarray:
        """A random change of alpha [knots, N]."""
        knots, pathways = self.alpha.shape
        random = np.random.RandomState([self.runner.seed, len(self.history)])
        return random.randn(knots, 1) + random.randn(1, pathways) + random.randn(knots, pathways)

    def _bred(self) -> np.ndarray:
        """The next change of a generation [knots, N]: evolution goes through all that was done anew, and needs no state."""
        knots, pathways = self.alpha.shape
        evolution = CMA(np.zeros(knots + pathways), 1.0, population_size=POPULATION, seed=self.runner.seed % 2**32)
        bred = evolution.ask()
        told = []
        for done in self.history[self._first + 1:]:
            told.append((bred, done['loss'] if math.isfinite(done['loss']) else np.finfo(np.float64).max))
            if len(told) == POPULATION:
                evolution.tell(told)
                told = []
            bred = evolution.ask()
        return bred[:knots, None] + bred[knots:]

    def _move_from_first(self, change: np.ndarray) -> None:
        """Set alpha to that of the first round and a change [knots, N]."""
        self._set_alpha(torch.tensor(self.history[self._first]['alpha']) + torch.from_numpy(change))
        broadcast(self.alpha.detach())  # processes may have seeds of their own

    def _derivatives(self) -> Tensor:
        """dJ/dw of all iterations of the round [iterations, N], from its last part to its first."""
        end = self._state() if len(self._parts) > 1 else None
        bound = self.max_growth * self.trajectory.length()
        derivatives, last = torch.zeros_like(self._weights), self.iterations
        for first, state in reversed(self._parts):
            if last < self.iterations:
                self._take_again(first, last, state)
            taken = [step.batch[0] % self.iterations for step in self.trajectory.steps]  # a loss scaler skips some
            if taken:
                derivatives[taken] = self.trajectory.sweep(self._training_loss, bound).to(derivatives)
            last = first
        if end is not None:
            self._set_state(end)
        return derivatives

    def _take_again(self, first: int, last: int, state: dict) -> None:
        """Take the steps of a part of the round again, to keep them."""
        self._set_state(state)
        begin = self._iter - self.iterations
        batches = endless(self.dataloader, begin + first)
        for place in range(first, last):
            for group, settings in zip(self.runner.optim_wrapper.param_groups, self._settings[place]):
                group.update(settings)
            self._train_step(begin + place, next(batches))
        batches.close()

    def _training_loss(self, parameters: Dict[str, Tensor], weights: Tensor, kept: Tuple[int, dict]) -> Tensor:
        """The loss of a step that was taken, as a function of what it was taken with."""
        iteration, data_batch = kept
        seed_all(self.runner.seed, get_rank(), iteration)
        return self.model.training_loss(data_batch, parameters, weights)


def _with_half_the_step(done: dict) -> dict:
    """A round from which Rprop goes half as far, next time too."""
    for part in (*done['optimizer']['param_groups'], *done['optimizer']['state'].values()):
        length = 'lr' if 'lr' in part else 'step_size'
        part[length] = part[length] / 2
    return done


def _copied(state):
    """A state with copies of its tensors in main memory."""
    if isinstance(state, Tensor):
        return state.detach().to('cpu', copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copied(value) for value in state)
    return copy.deepcopy(state)


def _bytes(step: Step) -> int:
    """Memory of a step that is kept."""
    before, (_, data) = step.before, step.batch
    states = [value for state in before.states for value in state.values()]
    inputs = data['inputs'] if isinstance(data['inputs'], (list, tuple)) else [data['inputs']]
    return sum(t.numel() * t.element_size() for t in [*before.theta, *before.gradients, *states, *inputs]
               if isinstance(t, Tensor))
