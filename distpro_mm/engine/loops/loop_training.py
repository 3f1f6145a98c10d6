"""A search loop's training, as the rounds of :mod:`distpro.searching` see it."""
from collections.abc import Iterator

import torch
from mmengine.dist import all_reduce_params, get_rank
from torch import Tensor

from ...datasets import seed_all
from ..processes import in_any_process
from .reproducible_train_loop import endless
from .search_loop import SearchLoop


class LoopTraining:
    """The loop's training, as :class:`distpro.searching.Training` wants it.

    Args:
        loop (SearchLoop): The loop.
        batch_share (float): Share of each batch, in (0, 1], that :meth:`training_loss` is computed of.

    Attributes:
        outputs (dict): Losses of the last step by name.
    """

    def __init__(self, loop: SearchLoop, batch_share: float) -> None:
        self.loop, self.batch_share = loop, batch_share
        self.outputs: dict = {}

    @property
    def model(self) -> torch.nn.Module:
        return self.loop.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.loop.runner.optim_wrapper.optimizer

    def state(self) -> dict:
        runner = self.loop.runner
        model = {name: value for name, value in self.model.state_dict().items() if not name.startswith('teacher.')}
        return dict(model=model, optimizer=runner.optim_wrapper.state_dict(),
                    schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers or []])

    def set_state(self, state: dict) -> None:
        runner = self.loop.runner
        self.model.load_state_dict(state['model'], strict=False)
        runner.optim_wrapper.load_state_dict(state['optimizer'])
        for scheduler, own in zip(runner.param_schedulers or [], state['schedulers']):
            scheduler.load_state_dict(own)

    def _seed(self, iteration: int) -> None:
        seed_all(self.loop.runner.seed, get_rank(), self.loop.round_start + iteration)

    def take_step(self, iteration: int, batch: dict, weights: Tensor) -> Tensor:
        self.model.distiller.grid.set_weights(weights)
        self._seed(iteration)  # hooks may have drawn random numbers
        runner = self.loop.runner
        self.outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        return self.outputs['loss']

    def batches(self, iteration: int) -> Iterator[dict]:
        return endless(self.loop.dataloader, self.loop.round_start + iteration)

    def training_loss(self, parameters: dict[str, Tensor], weights: Tensor, iteration: int, batch: dict) -> Tensor:
        self._seed(iteration)
        return self.model.training_loss(batch, parameters, weights, self.batch_share)

    def held_out_losses(self) -> Iterator[Tensor]:
        return self.loop.held_out_losses()

    def any_process(self, flag: Tensor) -> bool:
        return in_any_process(flag)  # processes skip the rest of a round together

    def average(self, tensors: list[Tensor]) -> None:
        all_reduce_params(tensors, op='mean')
