"""Show the layers that a config finds in teacher and student, its pathways and what they cost; without data or weights."""
import argparse
import sys

from distpro_mm.engine.command_line import add_config_options, run
from distpro_mm.engine.launch import build_model, load_config
from distpro_mm.errors import ConfigError
from distpro_mm.models import DistPro
from distpro_mm.pathways.inspection import explicit_config, layer_rows, pathway_rows
from distpro_mm.reporting.table import markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a search or a distillation, e.g. configs/distpro/search.py')
    add_config_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options, args.pair)
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
    model = build_model(cfg)
    if not isinstance(model, DistPro):
        raise ConfigError(f'model.type={type(model).__name__} has no pathways: give a config with model.type=DistPro, e.g. '
                          'configs/distpro/search.py')
    distiller = model.distiller
    features = [pathway for pathway in distiller.pathways if pathway.name in distiller.transforms]
    for title, network, side in (('Teacher', model.teacher, 'transmitter'), ('Student', model.student, 'receiver')):
        taps = dict.fromkeys(getattr(pathway, side) for pathway in features)
        print(f'{title}: {type(getattr(network, "backbone", network)).__name__}\n\n{markdown(layer_rows(taps))}\n')
    parameters = [sum(p.numel() for p in distiller.transforms[pathway.name].parameters())
                  if pathway.name in distiller.transforms else 0 for pathway in distiller.pathways]
    costs = model.pathway_costs().tolist()
    print(f'Pathways; cost in training steps of the student alone\n\n'
          f'{markdown(pathway_rows(distiller.pathways, parameters, costs, distiller.weights().tolist()))}\n')
    print(f'{sum(parameters):,} parameters; all pathways together cost {sum(costs):.2f} steps of the student\n\n'
          f'The same for model.distiller, spelt out:\n\n{explicit_config(features)}')


if __name__ == '__main__':
    sys.exit(run(main))
