"""Estimated cost of the teacher and the pathways in a training step, and advice to lower it."""
import copy
import functools

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from distpro.pathways import OUT_OF_PROPORTION, Pathway, changed_costs, cost
from distpro.pathways.cost import forward_cost, pathway_costs as costs_of_grid
from distpro.random_state import preserve_random_states
from distpro.tracing import MAP_SIZE

from .algorithms import DistPro, TapDistill
from .probing import probe

LISTED = 5  # maximum number of pathways in the advice
SETTINGS = dict(transform="transforms=[dict(type='PointwiseTransform')]", compare_at="compare_at='smaller'",
                map_size=f'map_size={MAP_SIZE} (for classifiers)')


def pathway_costs(model: DistPro) -> Tensor:
    """Cost of each pathway in training steps of the student alone (forward and backward) [N].

    For a student that cannot run without annotations, only ``extract_feat`` counts as a step.
    """
    with preserve_random_states(model.distiller.grid.alpha.device):
        return torch.tensor(_costs(model)) / _student_cost(model)


def teacher_cost(model: TapDistill) -> float:
    """Cost of a forward of all teachers, as it is without ``fast_teacher``, in training steps of the student alone."""
    for recorders in (model.distiller.student_recorders, model.distiller.teacher_recorders):
        for recorder in recorders.recorders.values():
            recorder.reset_data_buffer()  # tensors with a graph cannot be copied with the network
    with preserve_random_states(next(model.parameters()).device):
        forwards = [probe(copy.deepcopy(network), model.input_shape, forward_cost) for network in model.teachers.values()]
        return sum(forwards) / _student_cost(model)


def cost_advice(model: DistPro) -> list[str]:
    """A message for each overly expensive pathway, most expensive first, with cheaper settings and their costs."""
    grid = model.distiller.grid
    pathways = [pathway for pathway in grid.pathways if pathway.name in grid.transforms]
    with preserve_random_states(grid.alpha.device):
        student = _student_cost(model)
        costs = {pathway: seen / student for pathway, seen in zip(pathways, costs_of_grid(grid, pathways))}
        expensive = sorted((pathway for pathway in pathways if costs[pathway] > OUT_OF_PROPORTION), key=costs.get)[::-1]
        lines = []
        for pathway in expensive[:LISTED]:
            changed = {tuple(SETTINGS[change] for change in changes): seen / student
                       for changes, seen in changed_costs(grid, pathway).items()}
            lines.append(f"model.distiller: pathway '{pathway.name}' costs {costs[pathway]:.2f} training steps of the "
                         f'student alone (estimated): {_advice(pathway, costs[pathway], changed)}')
    if len(expensive) > LISTED:
        lines.append(f'model.distiller: {len(expensive) - LISTED} more pathways cost over {OUT_OF_PROPORTION:g} steps each')
    return lines


def _costs(model: DistPro) -> list[float]:
    samples = [DataSample().set_gt_label(0) for _ in range(2)]
    return costs_of_grid(model.distiller.grid,
                         arguments=functools.partial(model.distiller.arguments_of_logit_loss, samples))


def _student_cost(model: TapDistill) -> float:
    return probe(copy.deepcopy(model.student), model.input_shape, cost)


def _advice(pathway: Pathway, own: float, changed: dict[tuple[str, ...], float]) -> str:
    """Settings that lower a pathway's cost by 10% or more; combinations only if no single change suffices."""
    alone = {settings: seen for settings, seen in changed.items() if len(settings) == 1}
    least = min(alone.values())
    if least > OUT_OF_PROPORTION:
        alone.update((settings, seen) for settings, seen in changed.items() if seen <= 0.9 * least)
    helps = [f'{" with ".join(settings)} makes it {alone[settings]:.2f}' for settings in sorted(alone, key=alone.get)
             if alone[settings] <= 0.9 * own]
    pair = pathway.transmitter.name, pathway.receiver.name
    return '; '.join([*helps, f'removing {pair} from connections saves the full cost'])
