import copy
import functools
import math
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import all_reduce, all_reduce_params, broadcast, get_rank
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapperDict
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmrazor.engine import StopDistillHook
from mmrazor.registry import LOOPS
from torch import Tensor
from torch.utils.data import DataLoader

from distpro.errors import first_line, is_number
from distpro.process import DistillationProcess
from distpro.random_state import untouched
from distpro.search import SEARCHERS, Step, Trajectory, Trial
from distpro.weighting import OFF, Weighting

from ...datasets import seed_all
from ...errors import ConfigError, TrainingError
from ...models.guessing import single_label_loss
from ..hooks import DistillWarmUpHook, WholeRunRecordHook
from ..schedules import scaled_schedules
from .reproducible_train_loop import endless, start_at
from .search_loop import SearchLoop, usable

# What changes the training loss from epoch to epoch, of which a derivative at the end of a round would know nothing.
CHANGING = (StopDistillHook, DistillWarmUpHook, SwitchRecipeHook)
REFERENCES = ('student', 'kd')


@LOOPS.register_module()
class DistProWholeRunLoop(SearchLoop):
    """Searches a distillation process by the held-out loss at the end of short trainings.

    The student is trained in several rounds. Each round is a short training of its own: the same initial weights, the
    schedule of the config scaled to the round's length, and one process replayed in it. A
    :class:`~distpro.search.Searcher` says which process to try in the next round:

    1. The references: the student alone (all weights 0) and plain KD (the logits alone, at weight 1).
    2. The level of the weights: the initial process, and the same with all weights divided by 4 again and again, until
       the held-out loss rises; then the best with the logits' weight taken from the references.
    3. ``rounds`` refinements of the best level. By default the held-out loss is differentiated back through every step of
       the round (see :class:`distpro.search.Trajectory`), and alpha at each knot takes a step of Rprop.

    The process of the round with the lowest held-out loss is the result. If no process is better than the references, or
    than guessing, the best reference is written in its place, with a warning.

    A round costs its training, and one that is differentiated about four. The steps of a round are stored in memory; what
    does not fit is taken again in parts, which costs one more training. A resumed search continues at the beginning of the
    round in which it was interrupted.

    Args:
        runner (Runner): The runner; ``optim_wrapper`` and ``param_scheduler`` are those of the training that is to be
            distilled.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of that training.
        round_share (float): Length of a round as a share of that training, in (0, 1]. Defaults to 0.1.
        min_iterations (int): Least iterations of a round, >= 1; a round is never longer than the training. One of fewer
            iterations is repeated with other batches, and the mean of the held-out losses counts. Defaults to 200.
        rounds (int): Refinements, >= 1; after the last one alpha does not change. Defaults to 3.
        knots (int): Evenly spaced points of the run, >= 2, at which alpha is free; the weights are interpolated between
            them. Defaults to 4.
        rise (float): Offset added to the initial alpha at every interior knot. With weights exp(alpha) the default starts
            with 1 at the ends of the run and 20 between. 0: constant weights. Defaults to 3.
        feature_weight (float): Factor of the feature pathways' initial weights exp(alpha), > 0. With the default rise they
            start with 16 at the ends of the run and 320 between, and the logits with 1 and 20. Defaults to 16.
        step_size (float): Longest step of alpha at every knot of a refinement, > 0. Rprop halves it where the gradient's
            sign changes, and lengthens it by 1.2 while it stays. Defaults to 0.7.
        tolerance (float): A refinement is followed up to a held-out loss of 1 + tolerance times the lowest, >= 0: short
            trainings scatter. Defaults to 0.05.
        max_growth (float): Bound on the gradient's growth on its way back, relative to its length at the end of the round,
            > 0: where training is chaotic, the effect of early weights cannot be known. Defaults to 2.
        searcher (str): How the best level is refined: 'rprop', by derivatives; or by held-out losses alone, for what has
            no second derivative, with more ``rounds``, such as 22: 'evolution' (CMA-ES) or 'random'. Defaults to 'rprop'.
        references (Sequence[str]): References that are trained: 'student', 'kd'. The latter is left out where the distiller
            has no pathway between logits. Defaults to both.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. 0: the initial process is taken as
            it is. Defaults to 5.
        memory (float): GiB for stored steps, > 0. Defaults to 4.
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
                 round_share: float = 0.1,
                 min_iterations: int = 200,
                 rounds: int = 3,
                 knots: int = 4,
                 rise: float = 3.0,
                 feature_weight: float = 16.0,
                 step_size: float = 0.7,
                 tolerance: float = 0.05,
                 max_growth: float = 2.0,
                 searcher: str = 'rprop',
                 references: Sequence[str] = REFERENCES,
                 max_divisions: int = 5,
                 memory: float = 4.0,
                 **kwargs) -> None:
        for name, value, least in (('rounds', rounds, 1), ('knots', knots, 2), ('max_epochs', max_epochs, 1),
                                   ('min_iterations', min_iterations, 1), ('max_divisions', max_divisions, 0)):
            if not is_number(value) or not isinstance(value, int) or value < least:
                raise ConfigError(f'train_cfg.{name}={value!r} must be a whole number from {least}')
        for name, value in (('step_size', step_size), ('max_growth', max_growth), ('memory', memory),
                            ('feature_weight', feature_weight)):
            if not is_number(value) or not value > 0:
                raise ConfigError(f'train_cfg.{name}={value!r} must be a number above 0')
        if not is_number(round_share) or not 0 < round_share <= 1:
            raise ConfigError(f'train_cfg.round_share={round_share!r} must be a number above 0, up to 1')
        if not is_number(tolerance) or not tolerance >= 0:
            raise ConfigError(f'train_cfg.tolerance={tolerance!r} must be a number, 0 or more')
        if not is_number(rise):
            raise ConfigError(f'train_cfg.rise={rise!r} must be a finite number, such as 0 for constant weights at first')
        if not isinstance(references, (list, tuple)) or not set(references) <= set(REFERENCES):
            raise ConfigError(f'train_cfg.references={references!r} must be a list with some of {", ".join(REFERENCES)}')
        if searcher not in SEARCHERS:
            raise ConfigError(f"train_cfg.searcher={searcher!r} is not one of {', '.join(SEARCHERS)}")
        kind = SEARCHERS[searcher]
        self.differentiates = kind.differentiates
        if rounds < kind.minimum_rounds:
            raise ConfigError(f'train_cfg.rounds={rounds} is too few for searcher={searcher!r}, which needs '
                              f'{kind.minimum_rounds} or more, such as 22')
        constructor = runner.optim_wrapper.get('constructor') if isinstance(runner.optim_wrapper, dict) else None
        if isinstance(runner.optim_wrapper, OptimWrapperDict) or 'DistPro' in str(constructor):
            raise ConfigError('optim_wrapper.constructor: DistProWholeRunLoop moves alpha itself (train_cfg.step_size): '
                              'give the optim_wrapper of an ordinary training')
        for hook in runner.hooks:
            if isinstance(hook, CHANGING):
                raise ConfigError(f'custom_hooks: {type(hook).__name__} changes the training loss during a round, which a '
                                  'search by whole rounds does not know: remove it for the search')
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        if self.differentiates and self.model.distiller.grid.compile_transforms:
            raise ConfigError('model.distiller.compile_transforms=True: what is compiled has no second derivative; leave it '
                              'out for the search (the distillation may have it)')
        self.epochs = round_epochs(max_epochs, len(self.dataloader), round_share, min_iterations)
        self.iterations = self.epochs * len(self.dataloader)
        # Held-out losses of short trainings scatter, so the mean of several counts.
        self.repeats = math.ceil(min_iterations / self.iterations)
        runner.param_schedulers = self._of_a_round(runner.param_schedulers, self.epochs / max_epochs)
        self.max_growth, self.memory, self.knots = max_growth, memory, knots
        self.settings = dict(
            rounds=rounds, epochs=self.epochs, repeats=self.repeats, knots=knots, rise=rise, feature_weight=feature_weight,
            step_size=step_size, searcher=searcher, references=list(references), max_divisions=max_divisions,
            agreement=self.agreement, cost_penalty=self.cost_penalty)
        seed = torch.tensor(runner.seed)
        broadcast(seed)  # processes may have seeds of their own
        own = dict(step_size=step_size, tolerance=tolerance) if searcher == 'rprop' else {}
        grid = self.model.distiller.grid
        initial = grid.alpha.detach().cpu().repeat(knots, 1)
        initial[1:-1] += rise
        free = grid.weighting.type == 'exponential'
        if free:
            features = [index for index in range(initial.shape[1]) if index not in grid.logit_indices]
            initial[:, features] += math.log(feature_weight)
        self.searcher = kind(initial, self._references(references), rounds, grid.logit_indices, self._guessing(),
                             seed=int(seed), off=OFF, has_level=free, max_divisions=max_divisions, **own)
        self._initial: Optional[dict] = None
        self._losses: List[float] = []  # of the present trial's repeats that are done
        self._gradients: List[Tensor] = []
        self._expect_another_round()

    def _references(self, names: Sequence[str]) -> Dict[str, Tensor]:
        """alpha [knots, N] of the references."""
        distiller = self.model.distiller
        off = torch.full((self.knots, len(distiller.grid.pathways)), OFF)
        logits = distiller.grid.logit_indices
        kd = off.clone()
        # One logit loss in all: in the unit 'variance' they are averaged anyway.
        count = 1 if distiller.grid.weighting.unit == 'variance' else max(len(logits), 1)
        kd[:, logits] = -math.log(count * float(self._reference_weighting()(torch.zeros(1))))
        known = dict(student=off, kd=kd) if logits else dict(student=off)
        return {name: known[name] for name in names if name in known}

    def _guessing(self) -> float:
        """Loss of a classifier that guesses; infinity where it is not known."""
        student = self.model.student
        classes = getattr(getattr(student, 'head', None), 'num_classes', None)
        loss = single_label_loss(student)
        if self.agreement or not classes or loss is None:
            return math.inf
        labels = torch.arange(classes, device=self.model.distiller.grid.alpha.device)
        return float(loss(torch.zeros(classes, classes, device=labels.device), labels))

    def _expect_another_round(self) -> None:
        """Make room for the rounds that are done, and for the next one unless the search is finished."""
        rounds = (len(self.searcher.history) + (not self.searcher.finished)) * self.repeats
        self._max_epochs = self.val_begin = rounds * self.epochs
        self._max_iters = self._max_epochs * len(self.dataloader)

    def _of_a_round(self, schedulers: Union[None, dict, list], share: float) -> Union[None, list]:
        """The training's schedules, scaled to a round; one that does not say when it ends, ends with the round."""
        if schedulers is None:
            return None
        listed = [schedulers] if isinstance(schedulers, dict) else list(schedulers)
        if not all(isinstance(schedule, dict) and 'type' in schedule for schedule in listed):
            raise ConfigError('param_scheduler: a search in rounds takes those of an ordinary training, a dict or a list of '
                              f'dicts with type, got {schedulers}')
        # Iterations are counted of all training images, of which a part may be held out.
        scaled = scaled_schedules(listed, lambda by_epoch: share if by_epoch else share / self.unsplit,
                                  least=min(1, self.epochs - 1))
        for schedule in scaled:
            if 'total_steps' in schedule and not schedule.get('by_epoch', True):  # not a step more is allowed
                schedule['total_steps'] = max(schedule['total_steps'], self.iterations)
        return [dict(dict(end=self.epochs if schedule.get('by_epoch', True) else self.iterations), **schedule)
                for schedule in scaled]

    @property
    def sweeps(self) -> bool:
        """bool: Whether the steps of the present round may be differentiated at its end."""
        return self.differentiates and self.trial.kind == 'step' and self.searcher.steps_left > 1

    def weights(self, trial: Trial, alpha: Optional[Tensor] = None) -> Tensor:
        """Weights of all iterations of a round [iterations, N], differentiable in alpha [knots, N], or of the trial's."""
        distiller = self.model.distiller
        alpha = (trial.alpha if alpha is None else alpha).to(distiller.grid.alpha)
        knots = torch.stack([self._weighting(trial)(knot) for knot in alpha])
        places = torch.linspace(0, len(knots) - 1, self.iterations, device=knots.device)
        before = places.floor().long().clamp(max=len(knots) - 2)
        share = (places - before).to(knots)[:, None]
        return (1 - share) * knots[before] + share * knots[before + 1]

    def _weighting(self, trial: Trial) -> Weighting:
        return self._reference_weighting() if trial.kind in self.searcher.references else self.model.distiller.grid.weighting

    def _reference_weighting(self) -> Weighting:
        """One that can switch pathways off: the config's own, or exp(alpha)."""
        own = self.model.distiller.grid.weighting
        return own if own.type == 'exponential' else Weighting('exponential', unit=own.unit)

    def process(self) -> Optional[DistillationProcess]:
        """The process of the best round so far; None before the first one is done."""
        best = self.searcher.best
        if best is None:
            return None
        progress = [knot / (self.knots - 1) for knot in range(self.knots)]
        distiller = self.model.distiller
        return DistillationProcess(distiller.grid.names, self._weighting(best), progress, best.alpha.tolist(),
                                   layers=distiller.grid.layer_names)

    def start(self) -> None:
        """Make ready for :meth:`step`, at the beginning of a round."""
        self._epoch -= self._epoch % self.epochs
        self._iter = self._epoch * len(self.dataloader)
        self.trajectory = None
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.by_epoch and self.epochs % hook.interval:
                hook.interval = self.epochs  # at the end of a round, before which a resumed search begins
        if not self.differentiates and self.runner.optim_wrapper._accumulative_counts > 1:
            raise ConfigError(f'optim_wrapper.accumulative_counts={self.runner.optim_wrapper._accumulative_counts} is not '
                              'supported in a search, whose length is not known beforehand: remove it for the search')
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
        return dict(settings=self.settings, searcher=self.searcher.state_dict(), initial=self._initial, losses=self._losses,
                    gradients=self._gradients)

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave.

        Raises:
            ConfigError: If it is of another search.
        """
        pathways = self.searcher.initial.shape[1]
        history = state['searcher']['history']
        if state['settings'] != self.settings or history and history[0]['alpha'].shape[1] != pathways:
            raise ConfigError(f'the checkpoint is of a search with {state["settings"]}, and train_cfg has {self.settings} '
                              f'and model.distiller {pathways} pathways: resume with the config of the search')
        state = _copied(state)  # a checkpoint may be loaded onto a GPU
        self.searcher.load_state_dict(state['searcher'])
        self._initial, self._losses, self._gradients = state['initial'], state['losses'], state['gradients']
        self._expect_another_round()

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
        self.trial = self.searcher.ask()
        with torch.no_grad():
            self._weights = self.weights(self.trial)

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
        if self.differentiates and self._iter == 0:
            self._try_sweep(data_batch)
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
        if self.trial.kind == 'student':  # nothing distils: lower weights would not help
            self.check_finite(math.nan if self._diverged else 0., 'the training loss')
        return outputs

    def _try_sweep(self, data_batch: dict) -> None:
        """Differentiate a step with the initial weights: what has no second derivative must not show after hours only."""
        model, before, passes = self.model, self._state(), copy.copy(self.model.passes)
        weights = self.weights(Trial('step', self.searcher.initial)).detach()[0]
        model.distiller.grid.set_weights(weights)
        self.trajectory.keep((0, data_batch), weights)
        seed_all(self.runner.seed, get_rank(), 0)
        self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        try:
            with untouched(self.model), self._full_precision():
                self.trajectory.start([self.held_out_loss(next(iter(start_at(self.held_out_dataloader, 0, 0))))])
                if self.trajectory.steps:  # else a loss scaler skipped the step
                    self.trajectory.sweep(self._training_loss)
        except (NotImplementedError, RuntimeError) as error:
            raise ConfigError('train_cfg.type=DistProWholeRunLoop differentiates training steps, and something in the '
                              'student, the transforms or the losses has no second derivative; use DistProSearchLoop, or '
                              f"searcher='evolution' with more rounds, which need none ({first_line(error)})") from error
        finally:
            self.trajectory.steps, self.trajectory.swept = [], 0
            model.passes = passes
            self._set_state(before)
            seed_all(self.runner.seed, get_rank(), 0)

    def _full(self) -> bool:
        steps = self.trajectory.steps
        return bool(steps) and (len(steps) + 1) * _bytes(steps[-1]) > self.memory * 2**30

    def _full_precision(self) -> torch.autocast:
        return torch.autocast(self._weights.device.type, enabled=False)

    def _train_step(self, iteration: int, data_batch: dict) -> dict:
        weights = self._weights[iteration % self.iterations]
        self.model.distiller.grid.set_weights(weights)
        if self.sweeps:
            self.trajectory.keep((iteration, data_batch), weights)
        seed_all(self.runner.seed, get_rank(), iteration)  # hooks may have drawn random numbers
        return self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)

    def end_epoch(self) -> None:
        """After a round, measure the held-out loss and, if wanted, its gradient; tell them after the last repeat."""
        if self._iter % self.iterations:
            return
        searcher = self.searcher
        with untouched(self.model), self._full_precision():
            seed_all(self.runner.seed, get_rank(), self._iter, 1)
            loss = math.nan if self._diverged else self._measure()
            if self._price is not None:
                loss += (self._price.to(self._weights) * self._weights.mean(0)).sum().item()
            if self.trial.kind == 'student':
                self.check_finite(loss, 'the held-out loss')
            self._losses.append(loss)
            if self.sweeps and searcher.wants_gradient(_mean(self._losses)):
                self._gradients.append(self._gradient(self._derivatives()).cpu())
        if len(self._losses) < self.repeats:
            return
        loss = _mean(self._losses)
        lowest = math.isfinite(loss) and (searcher.best is None or loss < searcher.mean_loss(searcher.best))
        words = self._description()
        followed = len(self._gradients) == self.repeats and searcher.wants_gradient(loss)
        searcher.tell(loss, torch.stack(self._gradients).mean(0) if followed else None)
        self._losses, self._gradients = [], []
        found = f'held-out loss {loss:.4f}' if math.isfinite(loss) else 'training diverged'
        self.runner.logger.info(f'Trial {len(searcher.history)}, {words}: {found}' + ', the lowest so far' * lowest)
        self._expect_another_round()
        if searcher.finished:
            self._report()

    def _description(self) -> str:
        """The present trial in words."""
        if self.trial.kind == 'level':
            divisions = len(self.searcher.of_kind('level'))
            return f'initial weights divided by {4**divisions}' if divisions else 'initial weights'
        return dict(student='student alone', kd='plain KD', logits='other weight of the logits',
                    step='refinement')[self.trial.kind]

    def _report(self) -> None:
        """Say what the search found, and warn where it is no better than what needs no search."""
        searcher, logger = self.searcher, self.runner.logger
        best, bar = searcher.best, searcher.bar
        if best is None:
            raise TrainingError(f'the search is at its end, and none of its {len(searcher.history)} trials has a finite '
                                'held-out loss: lower optim_wrapper.optimizer.lr')
        others = ', '.join(f'{name} {trial.loss:.4f}' for name in searcher.references for trial in searcher.of_kind(name))
        if math.isfinite(searcher.guessing):
            others += f', guessing {searcher.guessing:.4f}'
        if best.kind in searcher.references:
            held = 'the student alone, all weights 0' if best.kind == 'student' else 'plain KD'
            logger.warning(f'No process is better than {best.kind!r} on the held-out images ({others}): process.json holds '
                           f'{held}. More images, a better teacher or longer rounds (train_cfg.min_iterations) may help')
        elif searcher.mean_loss(best) >= bar:
            logger.warning(f'The best held-out loss, {searcher.mean_loss(best):.4f}, is not below guessing ({bar:.4f}): '
                           'the student learns nothing in a round; give more epochs or check the learning rate')
        else:
            logger.info(f'The best process has a held-out loss of {searcher.mean_loss(best):.4f} ({others})')

    def _measure(self) -> float:
        """The held-out loss, of all held-out images; the way back begins there."""
        if self.trajectory is not None:
            return self.trajectory.start(self.held_out_losses())
        with torch.no_grad():
            mean = torch.stack(list(self.held_out_losses())).sum()
        all_reduce(mean, op='mean')
        return mean.item()

    def _gradient(self, derivatives: Tensor) -> Tensor:
        """By alpha [knots, N], of the derivatives by the weights of all iterations."""
        if self._price is not None:
            derivatives = derivatives + self._price.to(derivatives) / self.iterations
        alpha = self.trial.alpha.clone().requires_grad_()
        return torch.autograd.grad((self.weights(self.trial, alpha) * derivatives).sum(), alpha)[0]

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


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)


def round_epochs(max_epochs: int, iterations: int, share: float, min_iterations: int) -> int:
    """Epochs of a round: a share of the training's, at least enough for ``min_iterations``, at most the training's.

    Args:
        max_epochs (int): Epochs of the training.
        iterations (int): Iterations of an epoch.
        share (float): Share of the training, in (0, 1].
        min_iterations (int): Least iterations of a round.

    Returns:
        int: Epochs, >= 1.
    """
    return max(1, min(max_epochs, max(round(share * max_epochs), math.ceil(min_iterations / iterations))))


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
