import copy
import hashlib
import math
from collections.abc import Sequence

import torch
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import CheckpointHook
from mmrazor.registry import LOOPS
from torch.utils.data import DataLoader

from distpro.errors import argument_prefix, first_line
from distpro.process import DistillationProcess
from distpro.searching import REFERENCES, Round, RoundSearch, Searcher, Trajectory, build_searcher, round_epochs
from distpro.searching.arguments import check_numbers, check_references

from ...datasets import seed_all
from ...errors import ConfigError
from ...models.guessing import guessing_loss
from ..schedules import round_schedules
from .loop_training import LoopTraining
from .reproducible_train_loop import start_at
from .search_arguments import check_optimizer, check_runner, check_searcher
from .search_loop import SearchLoop
from .trial_reports import TrialReports


@LOOPS.register_module()
class DistProSearchLoop(SearchLoop):
    """Searches a distillation process by the held-out loss at the end of short trainings; the default search.

    The student is trained in several rounds. Each round is a short training of its own: the same initial weights, the
    schedule of the config scaled to the round's length, and one process replayed in it. A
    :class:`~distpro.searching.Searcher` proposes the process of the next round:

    1. The references: the student alone (all weights 0) and plain KD (the logits alone, at weight 1).
    2. The level of the weights: the initial process. If it was given and is below the references, 3 follows. Otherwise
       all weights are divided by 4 again and again, until the held-out loss rises; then the best is tried with the logits'
       weight taken from the references, and with weights that increase over the run.
    3. ``rounds`` refinements of the best level. By default the held-out loss is differentiated back through every step of
       the round (see :class:`distpro.searching.Trajectory`), and alpha at each knot takes a step of Rprop.
    4. Processes that are too close to tell are trained again, up to three times, and these rounds decide.

    Otherwise the process of the round with the lowest held-out loss is the result. If no process is better than the
    references, or than guessing, the best reference is written in its place, with a warning.

    A round costs its training, and one that is differentiated about three, or half of that with a quarter of each batch.
    Steps that do not fit in memory are taken again in parts, which costs one more training. A resumed search continues at
    the beginning of the interrupted round.

    Args:
        runner (Runner): The runner; ``optim_wrapper`` and ``param_scheduler`` are those of the training that is to be
            distilled.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of that training.
        round_share (float): Length of a round as a share of that training, in (0, 1]. Defaults to 0.1.
        min_iterations (int): Least iterations of a round, >= 1; a round is never longer than the training. One of fewer
            iterations is repeated with other batches, and the mean of the held-out losses counts. Defaults to 200.
        rounds (int): Refinements, >= 0; 0 searches for the level alone and differentiates nothing. Defaults to 3.
        knots (int): Evenly spaced points of the run, >= 2, at which alpha is free; the weights are interpolated between
            them. Defaults to 4.
        initial_bump (float): Offset added to the initial alpha at every interior knot. With weights exp(alpha) the default
            starts with 1 at the ends of the run and 20 between. 0: constant weights. Defaults to 3.
        feature_weight (float): Factor of the feature pathways' initial weights exp(alpha), > 0. Defaults to 16: with the
            default bump they start with 16 at the ends of the run and 320 between, and the logits with 1 and 20.
        initial (str or dict, optional): The process that is tried first: a name in the library, such as 'general', a
            process file, or a schedule as of ``ProcessReplayHook``; another pair's is mapped by depth. ``initial_bump`` and
            ``feature_weight`` do not apply then, and rising weights are not tried. If it is better than the references,
            other levels are tried with ``rounds=0`` only, and it is the result unless another process has a held-out loss
            that is 2% lower. Defaults to None: these two.
        scheduled (Sequence[str]): What is searched for beside the weights: 'temperature' and 'cross_entropy', factors of the
            temperature of logits and of the student's own losses. They start at 1. Defaults to none.
        searcher (dict): Strategy that refines the best level: ``type`` and its arguments. 'RpropSearcher'
            (``step_size=0.7``, ``tolerance=0.05``) uses derivatives. 'CMAESSearcher' and 'RandomSearcher' use held-out
            losses alone, for what has no second derivative, with more ``rounds``, such as 22. Defaults to
            ``dict(type='RpropSearcher')``.
        references (Sequence[str]): References that are trained: 'student', 'kd'. The latter is left out where the distiller
            has no pathway between logits. Defaults to both.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. 0: the initial process is taken as
            it is. Defaults to 5.
        max_growth (float): Growth of the gradient on its way back, relative to its length at the end of the round, > 0, from
            where it is not followed further: where training is chaotic, the effect of earlier weights cannot be known, and
            they stay as they are. Defaults to 2.
        batch_share (float): Share of each batch, in (0, 1], that the gradient is computed of on its way back, at least 16
            images: less than 1 is cheaper and noisier. Defaults to 1, the exact gradient.
        memory (float): GiB for stored steps, > 0. Defaults to 4.
        memory_on (str): Where they are stored: 'device' or 'host', main memory. Defaults to 'device'.
        held_out (dict, optional): How held-out images are split off, as in :class:`SearchLoop`.
        held_out_dataloader (dict, optional): A loader of held-out images in place of the split.
        teacher_kl_share (float): Share of the divergence from the teacher in the held-out loss, in [0, 1]. Defaults to 0.
        cost_penalty (float): Penalty on expensive pathways, >= 0. Defaults to 0.
        **kwargs: Of mmengine's ``EpochBasedTrainLoop``. The model is validated after the last round alone.

    Raises:
        ConfigError: If the config cannot be searched with; names the key.
    """

    def __init__(self,
                 runner,
                 dataloader: DataLoader | dict,
                 max_epochs: int,
                 round_share: float = 0.1,
                 min_iterations: int = 200,
                 rounds: int = 3,
                 knots: int = 4,
                 initial_bump: float = 3.0,
                 feature_weight: float = 16.0,
                 initial: str | dict | None = None,
                 scheduled: Sequence[str] = (),
                 searcher: dict = dict(type='RpropSearcher'),
                 references: Sequence[str] = REFERENCES,
                 max_divisions: int = 5,
                 max_growth: float = 2.0,
                 batch_share: float = 1.0,
                 memory: float = 4.0,
                 memory_on: str = 'device',
                 held_out: dict | None = None,
                 held_out_dataloader: dict | None = None,
                 teacher_kl_share: float = 0.0,
                 cost_penalty: float = 0.0,
                 **kwargs) -> None:
        of_searcher = dict(rounds=rounds, knots=knots, initial_bump=initial_bump, feature_weight=feature_weight,
                           max_divisions=max_divisions)
        with argument_prefix('train_cfg.', ConfigError):
            check_numbers(max_epochs=max_epochs, round_share=round_share, min_iterations=min_iterations,
                          max_growth=max_growth, batch_share=batch_share, memory=memory, **of_searcher)
            check_references(references)
        kind = check_searcher(searcher, rounds)
        check_runner(runner)
        self.differentiates = kind.differentiates and rounds > 0
        super().__init__(runner, dataloader, max_epochs, held_out, held_out_dataloader, teacher_kl_share, cost_penalty,
                         **kwargs)
        self._set_length(max_epochs, round_share, min_iterations)
        self.searcher = self._build_searcher({**searcher, 'type': kind}, scheduled, references=references, initial=initial,
                                             **of_searcher)
        self.settings = dict(
            of_searcher, epochs=self.epochs, repeats=self.repeats, searcher={**searcher, 'type': kind.__name__},
            references=list(references), teacher_kl_share=teacher_kl_share, cost_penalty=cost_penalty)
        if initial is not None:  # a file may have changed when the search is resumed
            self.settings['initial'] = hashlib.sha256(self.searcher.initial.numpy().tobytes()).hexdigest()[:16]
        self.training = LoopTraining(self, batch_share)
        with argument_prefix('train_cfg.', ConfigError):
            current = Round(self.training, self.iterations, self.differentiates, memory, max_growth, memory_on)
        self.search = RoundSearch(self.model.distiller.grid, current, self.searcher, self.repeats)
        self._reports = TrialReports(self.search, runner.logger)
        self.round_start = 0  # iteration at which the present round has started
        self._expect_another_round()

    def _check_model(self) -> None:
        """Refuse a model that cannot be searched with."""
        super()._check_model()
        if self.differentiates and self.model.distiller.grid.compile_transforms:
            raise ConfigError('model.distiller.compile_transforms=True: what is compiled has no second derivative; leave it '
                              'out for the search (the distillation may have it)')

    def _set_length(self, max_epochs: int, round_share: float, min_iterations: int) -> None:
        """Set the length of a round, how often it is repeated, and its schedules."""
        self.epochs = round_epochs(max_epochs, len(self.dataloader), round_share, min_iterations)
        self.iterations = self.epochs * len(self.dataloader)
        self.repeats = math.ceil(min_iterations / self.iterations)
        self.runner.param_schedulers = round_schedules(self.runner.param_schedulers, self.epochs, self.iterations,
                                                       self.epochs / max_epochs, self.unsplit)

    def _build_searcher(self, searcher: dict, scheduled: Sequence[str], **arguments) -> Searcher:
        """The strategy; ``arguments`` are those of :func:`build_searcher`."""
        seed = torch.tensor(self.runner.seed)
        broadcast(seed)  # processes may have seeds of their own
        guessing = math.inf if self.teacher_kl_share else guessing_loss(self.model.student)
        with argument_prefix('train_cfg.', ConfigError):
            self.model.distiller.grid.schedule(scheduled)
            return build_searcher(self.model.distiller.grid, searcher, guessing=guessing, seed=int(seed), **arguments)

    def _expect_another_round(self) -> None:
        """Make room for the rounds that are done, and for the next one unless the search is finished."""
        self._max_epochs = self.val_begin = self.search.rounds * self.epochs
        self._max_iters = self._max_epochs * len(self.dataloader)

    @property
    def trajectory(self) -> Trajectory | None:
        """Trajectory: Derivatives through rounds, if the search uses them."""
        return self.search.round.trajectory

    def start(self) -> None:
        """Make ready for :meth:`step`, at the beginning of a round."""
        self._epoch -= self._epoch % self.epochs
        self._iter = self._epoch * len(self.dataloader)
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.by_epoch and self.epochs % hook.interval:
                hook.interval = self.epochs  # at the end of a round, before which a resumed search begins
        wrapper = self.runner.optim_wrapper
        if not self.differentiates and wrapper._accumulative_counts > 1:
            raise ConfigError(f'optim_wrapper.accumulative_counts={wrapper._accumulative_counts} is not '
                              'supported in a search, whose length is not known beforehand: remove it for the search')
        if self.differentiates:
            check_optimizer(wrapper)
        self.search.round.open()
        self.search.price = self.price()

    def stop(self) -> None:
        """Leave the optimiser as it was, and end the held-out loader's workers."""
        self.search.round.close()
        super().stop()

    def run_epoch(self) -> None:
        """Iterate an epoch; the first one of a round begins with the initial weights."""
        if self._epoch % self.epochs == 0:
            self.round_start = self._iter
            self.search.begin()
        super().run_epoch()

    def step(self, data_batch: dict) -> dict:
        """One training step of the student.

        Args:
            data_batch (dict): The training batch.

        Returns:
            dict: Losses by name; NaN for the steps that are skipped once a round has diverged.
        """
        current = self.search.round
        if self._iter == 0:
            self.try_step(data_batch)
            with torch.no_grad():
                current.begin(self.search.weights(self.search.trial), self.search.stores)
            seed_all(self.runner.seed, get_rank(), 0)
        self.training.outputs = dict(loss=torch.tensor(math.nan))
        unknown = current.footprint is None
        current.step(data_batch)
        if unknown and current.footprint:
            self._reports.stores(current.footprint)
        if self._must_learn:
            self.check_finite(math.nan if current.diverged else 0., 'the training loss')
        return self.training.outputs

    @property
    def _must_learn(self) -> bool:
        """bool: Whether the search stops if the present trial diverges: nothing distils, so lower weights would not help."""
        return self.search.trial.kind == 'student' and not self.search.trial.confirms

    def try_step(self, data_batch: dict) -> None:
        """Take a step with the initial process before the first round, differentiate it if rounds are, and go back."""
        passes = copy.copy(self.model.passes)
        try:
            self.search.try_step(data_batch, lambda: [
                self.held_out_loss(next(iter(start_at(self.held_out_dataloader, 0, 0))))])
        except (NotImplementedError, RuntimeError) as error:
            if not self.differentiates:
                raise
            raise ConfigError('train_cfg.type=DistProSearchLoop differentiates training steps, and something in the '
                              'student, the transforms or the losses has no second derivative; use '
                              "searcher=dict(type='CMAESSearcher') with more rounds, or DistProOneStepSearchLoop "
                              f'({first_line(error)})') from error
        finally:
            self.model.passes = passes

    def end_epoch(self) -> None:
        """After a round, measure and report it."""
        self.loss_of_epoch = None
        if self._iter % self.iterations:
            return
        loss = self.search.end()
        if self._must_learn:
            self.check_finite(0. if loss is None else loss, 'the held-out loss')
        if loss is not None:
            self.after_trial()

    def after_trial(self) -> None:
        """Report the trial that the searcher has been told, and make room for the next one."""
        self.loss_of_epoch = self.search.trial.loss
        self._reports.after_trial()
        self._expect_another_round()
        if self.searcher.finished:
            self._reports.at_the_end()

    def process(self) -> DistillationProcess | None:
        """DistillationProcess: That of the best trial so far; None before the first one is done."""
        process = self.search.process()
        if process is not None:
            process.origin['epochs'] = self.epochs
        return process

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(settings=self.settings, search=self.search.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave.

        Raises:
            ConfigError: If it is of another search.
        """
        if 'settings' not in state:
            raise ConfigError('--resume: the checkpoint is not one of a search in rounds')
        pathways = self.searcher.initial.shape[1]
        history = state['search']['searcher']['history']
        if state['settings'] != self.settings or history and history[0]['alpha'].shape[1] != pathways:
            raise ConfigError(f'the checkpoint is of a search with {state["settings"]}, and train_cfg has {self.settings} '
                              f'and model.distiller {pathways} pathways: resume with the config of the search')
        self.search.load_state_dict(state['search'])
        self._expect_another_round()
