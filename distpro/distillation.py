"""Distillation of any two torch modules, for a training loop of one's own."""
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .checks import FLAG, check_choice, check_number, check_that, check_whole, is_function, named_arguments
from .errors import ArgumentError, argument_prefix, is_number
from .output import DistillationOutput
from .pathways import KLDivergence, PathwayGrid, PointwiseTransform
from .pathways.parts import Distance, try_logits
from .process import DistillationProcess, LevelControl, ProcessLike, fit_length, fit_process, is_of_short_rounds
from .teachers import Network, Teachers, build_pair, classifies_images, inner, logit_tap, read_features, teacher_taps
from .tracing import FAST_CHOICES, MAP_SIZE, find_logits, in_place_off, in_place_on, resolve_taps, trace_example
from .weighting import Weighting

BEYOND = 1.5  # progress that is taken for that of a training with a few more steps than expected
OF_THE_GRID = ('compare_at', 'from_covariances', 'cuda_graph', 'compile_transforms')


class Distillation(nn.Module):
    """Compares a teacher and a student along weighted pathways while the student is trained.

    The parameters of this module are the transforms. The student and the teacher are not submodules: the student's
    ``state_dict`` has nothing of this module, and its parameters are given to the optimiser next to this module's. The
    teacher is set to eval mode, moves with this module (``to``, ``double``) and runs without gradients. Without gradients
    (``torch.no_grad``) the student alone runs.

    Hooks read features during a forward only. In-place activations of both networks are switched off, so that a feature is
    what it was when it was read; :meth:`close` switches them on again.

    Args:
        student (nn.Module, str or dict): The student, or its name, see :func:`distpro.build_network`. For several processes
            see :meth:`with_student`.
        teacher (nn.Module, str or dict): The teacher, likewise; or a dict of several by names of your own, such as
            ``dict(large=resnet50, small=resnet18)``. Each has pathways of its own, whose names begin with ``large:``. One
            of several with other classes than the student is compared by its features alone.
        example (Tensor, tuple or dict): Two or more images [B, C, H, W], or all arguments of a forward, to find layers with.
        transmitters (str, Sequence or dict): The teacher's layers: 'auto' (stem and stages), or a list of names as in
            ``named_modules()`` or of dicts (see :func:`distpro.tracing.resolve_taps`); of several teachers also a dict of
            these by teacher. Defaults to 'auto'.
        receivers (str or Sequence): The student's layers, likewise. Defaults to 'auto'.
        connections (str or Sequence): See :func:`distpro.pathways.connect`. Defaults to 'student_not_shallower'.
        transforms (dict[str, Callable], optional): By label, ``build(in_channels, out_channels)`` gives a module from the
            student's map to the teacher's. Defaults to None: ``dict(pointwise=PointwiseTransform)``.
        distance (nn.Module, Callable or dict, optional): Loss of a transformed student's map and the teacher's, a scalar; or
            one by the label of a transform. Defaults to None: HCL.
        logits (dict[str, nn.Module or Callable], optional): By label, losses of the student's and the teacher's logits, each
            a scalar. Defaults to None: ``dict(kl=KLDivergence(4))``, or none with a warning if the teacher returns no
            logits. An empty dict: none.
        weighting (Weighting, str or dict, optional): From alpha to weights: a weighting, its name, or its arguments as in a
            config. Defaults to None: ``Weighting('exponential')``.
        map_size (int or str, optional): Maps are halved, by averages, as often as both sides remain whole and of this many
            pixels, >= 1, or more. None: as they are. Defaults to 'auto': 4 for classifiers of images, else None.
        process (str, dict or DistillationProcess, optional): The weights over the training: the file that a search wrote; a
            name in :func:`distpro.process.library`, such as 'general'; or
            ``dict(progress=[0, 0.5, 1], weights=dict(features=[1, 10, 100], logits=[0.3, 3, 30]))``, see
            :meth:`DistillationProcess.by_hand`. Defaults to None: weights of 1.
        transfer (bool): Carry a process of other networks over to these pathways by depth. Defaults to False: refuse it.
        steps (int, optional): Steps of the training, >= 1, for which a process of shorter rounds is changed if they are more
            than 500 (:func:`distpro.process.fit_length`). Defaults to None: the process as it is.
        skip_below (float): Pathways of a weight below this are not computed, >= 0. Defaults to 0.
        fast_teacher (bool or str): True: batch norms of the teacher are folded into convolutions, and on devices with units
            for bfloat16 it runs in this type (features differ by some 1%), on a GPU as a CUDA graph. 'exact': in its own
            type and without a graph, which changes rounding only. False, and of a compiled teacher: as it is. Defaults to
            True. See :class:`distpro.tracing.FastForward`.
        get_logits (Callable, optional): Gives the logits [B, K] out of what a network returns. Defaults to None: a tensor
            as it is, an attribute or key ``logits``, or the first element of a tuple.
        **kwargs: ``compare_at``, ``from_covariances``, ``cuda_graph``, ``compile_transforms`` of :class:`.PathwayGrid`.

    Attributes:
        grid (PathwayGrid): The pathways, their transforms and the weights in force.
        teachers (Teachers): The forwards of the teachers, see :class:`distpro.teachers.Teachers`.
        level (LevelControl, optional): State of :meth:`control_level`, for checkpoints; None for a process of this pair.

    Raises:
        ArgumentError: If an argument is out of range, or layers or the process do not fit the networks.

    Example:
        >>> kd = distpro.Distillation(student, teacher, images[:2], process='process.json')
        >>> for step, (images, labels) in enumerate(loader):
        ...     out = kd(images, progress=step / (steps - 1))
        ...     loss = criterion(out.logits, labels) + out.loss
    """

    @named_arguments(*OF_THE_GRID)
    def __init__(self,
                 student: Network,
                 teacher: Network,
                 example: Any,
                 transmitters: str | Sequence | dict = 'auto',
                 receivers: str | Sequence = 'auto',
                 connections: str | Sequence = 'student_not_shallower',
                 transforms: dict[str, Callable[..., nn.Module]] | None = None,
                 distance: Distance | Mapping[str, Distance] | None = None,
                 logits: dict[str, nn.Module | Callable[[Tensor, Tensor], Tensor]] | None = None,
                 weighting: Weighting | str | dict | None = None,
                 map_size: int | Literal['auto'] | None = 'auto',
                 process: ProcessLike | None = None,
                 transfer: bool = False,
                 steps: int | None = None,
                 skip_below: float = 0.0,
                 fast_teacher: bool | str = True,
                 get_logits: Callable[[Any], Tensor] | None = None,
                 **kwargs) -> None:
        super().__init__()
        check_number('skip_below', skip_below, least=0)
        check_choice('transfer', transfer, FLAG)
        if steps is not None:
            check_whole('steps', steps)
        check_choice('fast_teacher', fast_teacher, FAST_CHOICES)
        check_that('logits', logits, logits is None or isinstance(logits, dict),
                   'a dict of losses by label, such as dict(mse=torch.nn.MSELoss()), or {} for none')
        check_that('get_logits', get_logits, get_logits is None or is_function(get_logits),
                   'a function of what a network returns that gives the logits [B, K]')
        student, teacher = build_pair(student, teacher)
        teachers = teacher if isinstance(teacher, dict) else {'': teacher}
        self._networks = student, teacher  # a tuple, so that they are no submodules
        self.skip_below, self.get_logits = skip_below, get_logits or find_logits
        self._in_place = [module for network in (student, *teachers.values()) for module in in_place_off(network, self)]
        self.teachers = Teachers(teachers, self.get_logits)
        traces, traced = self.teachers.trace(example), trace_example(inner(student), example, 'student')
        self.teachers.run_faster(traces, fast_teacher)
        transmitting = teacher_taps(traces, transmitters)
        receiving = resolve_taps(receivers, traced, 'receivers', trained=True)
        logit_losses = dict(kl=KLDivergence(4)) if logits is None else dict(logits)
        logit_taps = self.teachers.logit_taps(traces, optional=logits is None) if logit_losses else []
        own = logit_tap(self.get_logits, traced, 'student')
        if logit_taps:
            logit_taps.append(own)
        else:
            logit_losses = {}
        transforms = dict(pointwise=PointwiseTransform) if transforms is None else transforms
        if map_size == 'auto':
            map_size = MAP_SIZE if classifies_images(self.get_logits, traced) else None
        self.grid = PathwayGrid(transmitting, receiving, transforms, connections, distance, logit_taps or None, logit_losses,
                                weighting, map_size=map_size, **kwargs)
        if self.grid.logit_taps:
            try_logits(self.grid.logit_losses, self.grid.logit_taps[-1].shape[0])
        self.grid.to(next(student.parameters()))  # device and type
        self.process: DistillationProcess | None = None
        self.level: LevelControl | None = None
        self._progress, self._classes, self._closed = 0.0, None, False
        if process is not None:
            with argument_prefix('process: '):
                self.process = fit_process(process, self.grid.names, self.grid.layer_names, self.grid.weighting.unit,
                                           transfer, instead=', or pass transfer=True to carry it over by depth')
                if steps is not None and is_of_short_rounds(self.process, steps):
                    self.process = fit_length(self.process, steps)
                self.grid.schedule(tuple(self.process.scheduled))
            if 'transfer' in self.process.origin:
                self.level = LevelControl([student, *self.grid.trained])

    @property
    def student(self) -> nn.Module:
        """nn.Module: The student."""
        return self._networks[0]

    @property
    def teacher(self) -> nn.Module | dict[str, nn.Module]:
        """nn.Module or dict[str, nn.Module]: The teacher; several by name."""
        return self._networks[1]

    def set_progress(self, progress: float) -> None:
        """Set the process's weights at a share of the training, in [0, 1]. Up to 1.5, more counts as 1, with a warning.

        Raises:
            ArgumentError: If ``progress`` is out of range.
        """
        if not is_number(progress) or not 0 <= progress <= BEYOND:
            raise ArgumentError(f'progress={progress!r} must be a number from 0, the first step, to 1, the last')
        if progress > 1:  # the end of a long training is not the time to stop it
            warnings.warn(f'progress={progress:.4g} counts as 1: the training has more steps than it was divided by',
                          stacklevel=3)
        self._progress = progress = min(float(progress), 1.0)
        if self.process is not None:
            weights = self.process.at(progress)
            if self.level:
                self.level.begin(progress)
                weights = self.level.factor * weights
            weights = np.concatenate([weights, self.process.scheduled_at([progress])[0]])
            self.grid.set_weights(weights, self.skip_below, self.process.weighting.unit)

    def control_level(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> bool:
        """Start again with lower weights if those of a process of other networks are too high for this student.

        See :class:`distpro.process.LevelControl`. Call it at the end of every step. A new start comes with a warning. It
        does nothing for a process that was searched for this pair, a hand-tuned schedule, or none.

        Args:
            loss (Tensor): The student's mean cross-entropy on the labels of this batch, a scalar.
            *optimizers (torch.optim.Optimizer): The optimisers, whose momentum is forgotten at a new start.

        Returns:
            bool: Whether the student has started again, so that an average of its weights must start again too.

        Raises:
            ArgumentError: If an argument is of a wrong kind, or no forward with gradients was run before.
        """
        check_that('loss', loss, isinstance(loss, Tensor) and loss.dim() == 0, 'the mean cross-entropy of a batch, a scalar')
        for optimizer in optimizers:
            check_that('optimizers', optimizer, isinstance(optimizer, torch.optim.Optimizer), 'a torch.optim.Optimizer')
        if self._classes is None:
            raise ArgumentError('control_level: there is no step yet: call it after kd(images, progress=...) with gradients')
        guess = math.log(max(self._classes, 2))  # one logit has two classes
        warning = self.level.observe(self._progress, loss, guess, optimizers) if self.level else None
        if warning:
            warnings.warn(warning, stacklevel=2)
        return warning is not None

    def forward(self, *args: Any, progress: float | None = None, **kwargs: Any) -> DistillationOutput:
        """Run the student and, if its gradient is wanted, the teacher and the pathways.

        Args:
            *args (Any): Arguments of both networks: the images [B, C, H, W].
            progress (float, optional): Share of the training that is done, in [0, 1]; needed if there is a process and
                gradients are on. Defaults to None.
            **kwargs (Any): Further arguments of both networks.

        Returns:
            DistillationOutput: Logits, loss, and the pathways' losses.
        """
        if not torch.is_grad_enabled():
            output = self.student(*args, **kwargs)
            logits = self.get_logits(output)
            return DistillationOutput(logits, logits.new_zeros(()), {}, output)
        if progress is not None:
            self.set_progress(progress)
        elif self.process is not None:
            raise ArgumentError('progress=None: pass the share of the training that is done, from 0 to 1')
        return self.compare(args, kwargs)

    def compare(self, args: tuple, kwargs: dict[str, Any]) -> DistillationOutput:
        """:meth:`forward` with the weights that are in force."""
        if self._closed:
            raise ArgumentError('this Distillation is closed, so activations in place may overwrite what it reads: call '
                                'close() after the training, or make a new one')
        grid = self.grid
        output, received = read_features(self.student, grid.taps('receiver'), args, kwargs, self.get_logits, 'student')
        logits = received['logits'] if 'logits' in received else self.get_logits(output)
        self._classes, own = logits.shape[-1], grid.scheduled_value('cross_entropy')
        if not grid.active:
            return DistillationOutput(logits, 0 * logits.flatten()[0], {}, output, own)  # has a gradient, of 0
        transmitted = self.teachers.read(grid.taps('transmitter'), args, kwargs)
        loss, losses = grid.loss(received, transmitted)
        found = {grid.names[index]: loss for index, loss in zip(grid.active, losses)}
        return DistillationOutput(logits, loss, found, output, own)

    def with_student(self) -> nn.Module:
        """nn.Module: A module with the forward of this one whose parameters are the student's and the transforms'.

        For several processes, so that one wrapper sees all gradients:

        >>> model = DistributedDataParallel(kd.with_student())
        >>> out = model(images, progress=step / (steps - 1))
        """
        return _WithStudent(self)

    def _apply(self, fn: Callable, recurse: bool = True) -> 'Distillation':
        """Move the teacher too, by ``to``, ``cuda``, ``double`` and the like: nothing else moves it."""
        for network in self.teachers.networks.values():
            network._apply(fn)
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> 'Distillation':
        """Set the mode of the transforms; the student's mode is its own, and the teacher stays in eval mode."""
        self.teachers.eval()
        return super().train(mode)

    def close(self) -> None:
        """End the distillation and switch in-place activations of both networks on again.

        They stay off while a different Distillation of the same network is open. Without gradients, the student runs after
        this too.
        """
        in_place_on(self._in_place, self)
        self._in_place, self._closed = [], True

    def __enter__(self) -> 'Distillation':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class _WithStudent(nn.Module):
    def __init__(self, distillation: Distillation) -> None:
        super().__init__()
        self.student, self.distillation = distillation.student, distillation

    def forward(self, *args: Any, **kwargs: Any) -> DistillationOutput:
        return self.distillation(*args, **kwargs)

