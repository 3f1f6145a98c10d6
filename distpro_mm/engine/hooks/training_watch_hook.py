import collections
import math

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmrazor.registry import HOOKS

from distpro.checks import FLAG, check_choice, check_whole

from ...errors import ConfigError, NotLearnedError, TrainingError
from ...models import DistProDistiller
from ...models.guessing import GuessingBaseline, trained_loss
from ..processes import in_any_process
from ..search import Search
from ..unwrap import unwrap
from .process_replay_hook import ProcessReplayHook

WARN_AT = (0.1, 0.25, 0.5)  # shares of the run
WINDOW = (20, 1000)  # minimum and maximum number of batches of a mean; a twentieth of the run in between
SHORTEST = 100  # minimum iterations of a run for a NotLearnedError at GUESSING
DIVERGED = 100  # times the loss of guessing: the training has diverged, whatever its length
GUESSING = 0.99  # times the loss of guessing; a classifier that ignores its images has 1 or more
OUTWEIGHED = 100  # times the student's own loss


@HOOKS.register_module()
class TrainingWatchHook(Hook):
    """Stops a training that diverges, and reports a training that does not learn; for every train loop.

    - A loss that is not finite stops the training with a :class:`TrainingError`, in all processes at once. The weights are
      checked before every checkpoint and validation, so that invalid weights never replace a valid checkpoint.
    - A warning is logged if the student's cross-entropy is no better than guessing (see :class:`.GuessingBaseline`) after
      10%, 25% or 50% of the run. A :class:`NotLearnedError` is raised, after the last checkpoint and validation, if this
      still holds at the end of a run of at least 100 iterations, or if the cross-entropy of any run ends at 100 times that
      of guessing. The check needs a head with one label per image, a plain or label-smoothed cross-entropy, and a student
      that is trained on its labels.
    - A warning is logged once if the distillation losses exceed 100 times the student's own loss, or 100 times the loss of
      guessing if this is higher.

    Losses are averaged over the last 5% of the run, but at least 20 and at most 1000 batches; after a resume, only over new
    batches.

    ``tools/train.py``, :func:`.build_trainer` and :class:`.ReproducibleTrainLoop` register the hook if the config has none.
    A search in rounds is not checked, because it handles diverged rounds itself.

    Args:
        interval (int): Iterations between two checks across several processes for a loss that is not finite, >= 1. A single
            process checks every iteration. Defaults to 50.
        must_learn (bool): Whether a run that ends at guessing raises an error; False logs a warning. Defaults to True.

    Raises:
        ConfigError: If an argument is out of range.

    Example:
        >>> custom_hooks = [dict(type='mmrazor.TrainingWatchHook', must_learn=False)]
    """
    priority = 'LOW'  # after the log of the step, before checkpoints

    def __init__(self, interval: int = 50, must_learn: bool = True) -> None:
        check_whole('custom_hooks: TrainingWatchHook.interval', interval, error=ConfigError)
        check_choice('custom_hooks: TrainingWatchHook.must_learn', must_learn, FLAG, ConfigError)
        self.interval = interval
        self.must_learn = must_learn
        self._watching = False

    def before_train(self, runner) -> None:
        """Find the losses to watch."""
        if isinstance(runner.train_loop, Search) and runner.train_loop.in_rounds:
            return
        self._watching, self._fault, self._outweighed = True, None, False
        window = min(max(runner.max_iters // 20, WINDOW[0]), WINDOW[1])
        self._losses: collections.deque = collections.deque(maxlen=window)  # of the student, and of distillation
        model = unwrap(runner.model)
        loss = trained_loss(model)
        self._guessing: GuessingBaseline | None = None
        if loss is not None and not runner.cfg.get('compile'):  # compiled steps skip the hooks of modules
            self._guessing = GuessingBaseline(loss, window)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Check the losses of the step.

        Raises:
            TrainingError: If a loss is not finite.
        """
        if not self._watching or any(isinstance(hook, ProcessReplayHook) and hook.restarted == runner.iter
                                     for hook in runner.hooks):
            return
        # RuntimeInfoHook has already read these values, so reading them again needs no synchronisation.
        losses = {name: float(torch.as_tensor(value).detach()) for name, value in (outputs or {}).items() if 'loss' in name}
        wrong = [f'{name}={value}' for name, value in losses.items() if not math.isfinite(value)]
        if wrong and self._fault is None:
            self._fault = f'stopped at iteration {runner.iter + 1} of {runner.max_iters}: the training loss is not finite ' \
                          f'({", ".join(wrong)})'
        due = self._checkpoint_is_due(runner)
        if due or get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._stop_if_diverged(runner, check_weights=due)
        self._losses.append([math.fsum(value for name, value in losses.items() if name.startswith(part))
                             for part in ('student.', 'distill.')])
        self._warn(runner)

    def after_train_epoch(self, runner) -> None:
        """Check the weights before a checkpoint is written.

        Raises:
            TrainingError: If a weight or a loss of the epoch is not finite.
        """
        if self._watching:
            self._stop_if_diverged(runner, check_weights=True)

    def before_val(self, runner) -> None:
        """Check the weights before a validation, which may write the best checkpoint.

        Raises:
            TrainingError: If a weight or a loss is not finite.
        """
        if self._watching:
            self._stop_if_diverged(runner, check_weights=True)

    def after_run(self, runner) -> None:
        """Check that the student has learned; all checkpoints are written by now.

        Raises:
            NotLearnedError: If the student is no better than guessing.
        """
        if not self._watching:
            return
        self._watching = False
        if self._guessing is None:
            return
        self._guessing.close()
        if len(self._guessing) < WINDOW[0]:
            return
        own, guess = self._means()
        if own >= (GUESSING if runner.max_iters >= SHORTEST else DIVERGED) * guess:
            message = (f'the training has ended with a student no better than guessing: {self._compared(own, guess)}; '
                       f'{_advice(runner, diverged=False)}. {_last_checkpoint(runner)}')
            if self.must_learn:
                raise NotLearnedError(message)
            runner.logger.warning(message[0].upper() + message[1:])

    @staticmethod
    def _checkpoint_is_due(runner) -> bool:
        """Whether a checkpoint is written after this iteration."""
        return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
                   or hook.save_last and hook.is_last_train_iter(runner)
                   for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)

    def _stop_if_diverged(self, runner, check_weights: bool) -> None:
        """Stop all processes if the training has diverged in any of them."""
        fault = self._fault
        if fault is None and check_weights:
            weights = [weight for weight in runner.model.parameters() if weight.requires_grad]
            if weights and not torch.stack([weight.detach().isfinite().all() for weight in weights]).all():
                fault = f'stopped in epoch {runner.epoch + 1}, before a checkpoint: weights of the model are not finite'
        if in_any_process(torch.tensor(fault is not None)):
            fault = fault or 'stopped: the training loss of another process is not finite'
            raise TrainingError(f'{fault}; {_advice(runner, diverged=True)}. {_last_checkpoint(runner)}')

    def _warn(self, runner) -> None:
        """Warn if the student does not learn, or if the distillation losses outweigh its own loss."""
        iteration = runner.iter + 1
        if self._guessing is not None and len(self._guessing) >= WINDOW[0]:
            passed = [share for share in WARN_AT if math.ceil(share * runner.max_iters) == iteration]
            own, guess = self._means() if passed else (0., 1.)
            if own >= GUESSING * guess:
                runner.logger.warning(f'{passed[-1]:.0%} of the training is done, and the student is no better than '
                                      f'guessing: {self._compared(own, guess)}; {_advice(runner, diverged=False)}')
        window = self._losses.maxlen
        if self._outweighed or iteration % window or len(self._losses) < window:
            return
        means = torch.tensor(list(self._losses), dtype=torch.float32).mean(0)
        all_reduce(means, op='mean')
        own, distillation = means.tolist()
        guess = self._means()[1] if self._guessing is not None and len(self._guessing) else 0.
        if own and distillation > OUTWEIGHED * max(own, guess):
            self._outweighed = True
            runner.logger.warning(f'The distillation losses are {distillation:.4g} on average over the last {window} '
                                  f"batches, {distillation / own:.0f} times the student's own loss of {own:.4g}; the "
                                  f'student may learn nothing from its labels; {_advice(runner, diverged=False)}')

    def _means(self) -> tuple[float, float]:
        """The mean cross-entropy of the student and of guessing over all processes."""
        means = self._guessing.means()
        all_reduce(means, op='mean')
        own, guess = means.tolist()
        return own, guess

    def _compared(self, own: float, guess: float) -> str:
        return (f'over the last {len(self._guessing)} batches its cross-entropy is {own:.4g}; guessing by the '
                f'frequency of the classes has {guess:.4g}')


def _advice(runner, diverged: bool) -> str:
    """Advice for the config: the learning rate, and the weights of a distillation."""
    weights = None
    distiller = getattr(unwrap(runner.model), 'distiller', None)
    replays = [hook for hook in runner.hooks if isinstance(hook, ProcessReplayHook)]
    if replays and isinstance(replays[0].process, dict):
        weights = 'the weights of ProcessReplayHook.process in custom_hooks'
    elif replays and replays[0].mapped:
        return ('lower optim_wrapper.optimizer.lr, or search for the level of the weights, which are those of other '
                f"networks: configs/distpro/search.py with train_cfg.initial='{replays[0].process}' and train_cfg.rounds=0")
    elif isinstance(distiller, DistProDistiller):
        weights = f'model.distiller.weighting.kd_weight={distiller.grid.weighting.kd_weight:g}'
        weights += ' in the search and search again' * bool(replays)
    elif distiller is not None:
        weights = 'the loss_weight of the losses in model.distiller'
    if diverged:
        return 'lower optim_wrapper.optimizer.lr' + (f' or {weights}' if weights else '')
    return (f'lower {weights} or ' if weights else '') + 'try another optim_wrapper.optimizer.lr'


def _last_checkpoint(runner) -> str:
    last = runner.message_hub.get_info('last_ckpt')
    return f"The last checkpoint is '{last}'" if last else 'No checkpoint was written'
