"""Convert a teacher published by RepDistiller or mdistiller into a checkpoint for teacher_ckpt."""
import sys

from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config
from distpro_mm.models.published_checkpoints import convert_teacher


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('checkpoint', help='the published file (.pth)')
    parser.add_argument('config', help='a config with the network as model, or as the teacher of a distillation')
    add_config_options(parser)
    parser.add_argument('--out', required=True, help='file to write')
    args = parser.parse_args()
    weights = convert_teacher(load_config(args.config, args.cfg_options, args.pair), args.checkpoint, args.out)
    for weight in weights:
        print(f'{weight.published} -> {weight.ours} {list(weight.shape)}')
    print(f'{len(weights)} weights converted: {args.out}')


if __name__ == '__main__':
    sys.exit(run(main))
