
from mmengine.optim import OptimWrapperDict
from mmrazor.registry import LOOPS, OPTIM_WRAPPER_CONSTRUCTORS
from torch.utils.data import DataLoader

from distpro.checks import check_whole

from ...config_types import is_a
from ...errors import ConfigError
from ...models import L2T
from ..optimizers import L2TOptimWrapperConstructor
from .reproducible_train_loop import ReproducibleTrainLoop


@LOOPS.register_module()
class L2TTrainLoop(ReproducibleTrainLoop):
    """Trains L2T-ww (ICML 2019, algorithm 1): after every step of the student, one of the meta networks on the same batch.

    Args:
        runner (Runner): The runner, of one process.
        dataloader (dict): Config of the training set's loader.
        max_epochs (int): Epochs.
        inner_steps (int): T of the paper, steps on the transfer loss alone, >= 1. Defaults to 2, the release's.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: If the config cannot be trained with; names the key.
    """

    def __init__(self, runner, dataloader: DataLoader | dict, max_epochs: int, inner_steps: int = 2, **kwargs) -> None:
        check_whole('train_cfg.inner_steps', inner_steps, error=ConfigError)
        if not isinstance(runner.model, L2T):
            raise ConfigError('train_cfg.type=L2TTrainLoop needs model.type=L2T in one process, got '
                              f'{type(runner.model).__name__}')
        wrapper = runner.optim_wrapper
        constructor = wrapper.get('constructor') if isinstance(wrapper, dict) else None
        if not (isinstance(wrapper, OptimWrapperDict) or is_a(
                constructor, L2TOptimWrapperConstructor, OPTIM_WRAPPER_CONSTRUCTORS)):
            raise ConfigError(f"optim_wrapper.constructor={constructor!r}: L2TTrainLoop needs "
                              "'mmrazor.L2TOptimWrapperConstructor', which builds the optimisers of the student and of the "
                              'meta networks')
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self.inner_steps = inner_steps
        schedulers = runner.param_schedulers or []
        if not isinstance(schedulers, dict) or 'type' in schedulers:  # a plain list is the student's alone
            schedulers = dict(student=schedulers if isinstance(schedulers, list) else [schedulers], meta=[])
        runner.param_schedulers = schedulers

    def step(self, data_batch: dict) -> dict:
        """One training step of the student, and one of the meta networks.

        Args:
            data_batch (dict): The batch.

        Returns:
            dict: Losses by name.
        """
        model, student, meta = self.runner.model, *(self.runner.optim_wrapper[name] for name in ('student', 'meta'))
        outputs = model.train_step(data_batch, optim_wrapper=student)
        self.check_finite(outputs['loss'], 'the training loss')
        group = student.param_groups[0]
        gradients = model.meta_gradient(group['lr'], group['weight_decay'], self.inner_steps)
        for parameter, gradient in zip(model.distiller.meta_parameters(), gradients):
            self.check_finite(gradient, 'the gradient of a meta network')
            parameter.grad = gradient
        meta.step()
        meta.zero_grad()  # the student's optimiser passes over what has no gradient
        return outputs
