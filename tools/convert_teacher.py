"""Convert a teacher published by RepDistiller or mdistiller into a checkpoint for teacher_ckpt."""
import argparse
import sys

from distpro_mm.engine.command_line import OptionsAction, run
from distpro_mm.engine.launch import load_config
from distpro_mm.models.published_checkpoints import convert_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='the published file (.pth)')
    parser.add_argument('config', help='a config with the network as model, or as the teacher of a distillation')
    parser.add_argument('--pair', help='pair of networks, a file of configs/_base_/pairs, that the config is read for')
    parser.add_argument('--out', required=True, help='file to write')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, metavar='KEY=VALUE',
                        help='override settings of the config')
    args = parser.parse_args()
    weights = convert_teacher(load_config(args.config, args.cfg_options, args.pair), args.checkpoint, args.out)
    for weight in weights:
        print(f'{weight.published} -> {weight.ours} {list(weight.shape)}')
    print(f'{len(weights)} weights converted: {args.out}')


if __name__ == '__main__':
    sys.exit(run(main))
