"""Layers, pathways and costs of a config."""
from mmengine.config import Config

from distpro.teachers import taps_of

from ..config_types import is_a
from ..engine.launch import build_pathways, expand_clustered_layers
from ..models import DistPro
from ..models.cost import cost_advice, pathway_costs
from ..reporting.inspection import cluster_rows, explicit_config, layer_rows, pathway_rows
from ..reporting.table import markdown


def inspect_pathways(cfg: Config) -> None:
    """Print the layers of teacher and student that a config selects, its pathways and their costs.

    Args:
        cfg (Config): The config of a search or a distillation. Needs no data or weights, except for transmitters of the type
            'clustered'.

    Raises:
        ConfigError: If it has no pathways.
    """
    found = expand_clustered_layers(cfg)
    if found is not None:
        print(f"Clusters of the teacher's blocks, and their similarities\n\n"
              f'{markdown(cluster_rows(found.names, found.clusters, found.medoids, found.similarity))}\n\n'
              f'The same as explicit layers:\n\ntransmitters={found.layers}\n')
        if not is_a(cfg.model.type, DistPro):
            return
    model = build_pathways(cfg)
    grid = model.distiller.grid
    features = [pathway for pathway in grid.pathways if pathway.name in grid.transforms]
    networks = [(f"Teacher '{name}'" if name else 'Teacher', network, taps_of(name, [
        pathway.transmitter for pathway in features])) for name, network in model.teachers.items()]
    for title, network, found_taps in (*networks, ('Student', model.student, [pathway.receiver for pathway in features])):
        taps = dict.fromkeys(found_taps)
        print(f'{title}: {type(getattr(network, "backbone", network)).__name__}\n\n{markdown(layer_rows(taps))}\n')
    parameters = [sum(p.numel() for p in grid.transforms[pathway.name].parameters())
                  if pathway.name in grid.transforms else 0 for pathway in grid.pathways]
    costs = pathway_costs(model).tolist()
    print(f'Pathways; cost in training steps of the student alone\n\n'
          f'{markdown(pathway_rows(grid.pathways, parameters, costs, grid.weights().tolist()))}\n')
    print(f'{sum(parameters):,} parameters; all pathways cost {sum(costs):.2f} steps of the student\n\n'
          f'The same as an explicit model.distiller:\n\n{explicit_config(features)}')
    for line in cost_advice(model):
        print(f'\n{line}')
