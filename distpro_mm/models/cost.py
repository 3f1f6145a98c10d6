"""What pathways add to a training step, estimated, and what lowers it."""
import copy
import functools
from typing import Dict, List, Tuple

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from distpro.pathways import OUT_OF_PROPORTION, Pathway, changed_costs, cost
from distpro.pathways.cost import pathway_costs as costs_of_grid
from distpro.random_state import fixed_random_states

from .algorithms import DistPro
from .probing import probe

LISTED = 5  # pathways that the advice names
SETTINGS = dict(transform="transforms=[dict(type='PointwiseTransform')]", compare_at="compare_at='smaller'")


def pathway_costs(model: DistPro) -> Tensor:
    """Cost of each pathway in training steps of the student alone (forward and backward) [N].

    Of a student that cannot run without annotations, only the part that extracts its features counts.
    """
    with fixed_random_states(model.distiller.grid.alpha.device):
        return torch.tensor(_costs(model)) / _student_cost(model)


def cost_advice(model: DistPro) -> List[str]:
    """A sentence for each pathway out of proportion, most expensive first, with what makes it cheaper and by how much."""
    grid = model.distiller.grid
    pathways = [pathway for pathway in grid.pathways if pathway.name in grid.transforms]
    with fixed_random_states(grid.alpha.device):
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


def _costs(model: DistPro) -> List[float]:
    samples = [DataSample().set_gt_label(0) for _ in range(2)]
    return costs_of_grid(model.distiller.grid,
                         arguments=functools.partial(model.distiller.arguments_of_logit_loss, samples))


def _student_cost(model: DistPro) -> float:
    return probe(copy.deepcopy(model.student), model.input_shape, cost)


def _advice(pathway: Pathway, own: float, changed: Dict[Tuple[str, ...], float]) -> str:
    """What lowers a pathway's cost by a tenth or more; several changes together only where none alone does enough."""
    alone = {settings: seen for settings, seen in changed.items() if len(settings) == 1}
    least = min(alone.values())
    if least > OUT_OF_PROPORTION:
        alone.update((settings, seen) for settings, seen in changed.items() if seen <= 0.9 * least)
    helps = [f'{" with ".join(settings)} makes that {alone[settings]:.2f}' for settings in sorted(alone, key=alone.get)
             if alone[settings] <= 0.9 * own]
    pair = pathway.transmitter.name, pathway.receiver.name
    return '; '.join([*helps, f'leaving {pair} out of connections saves it all'])
