"""Export the student of a distillation as a plain mmpretrain model (student.pth, student.py), or to pt2 and ONNX."""
import sys

from distpro_app.config_export import CONFIG_FORMATS, TOOLBOX, export_config
from distpro_app.settings import formats_of
from distpro_mm import commands
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='its checkpoint')
    add_config_options(parser)
    parser.add_argument('--out', default='student', help='folder to write to (default: student)')
    parser.add_argument('--formats', default=TOOLBOX, help='mm (a plain model of its toolbox, the default), pt2, onnx, or '
                        'several, such as mm,onnx')
    args = parser.parse_args()
    formats = formats_of(args.formats, CONFIG_FORMATS)
    export_config(commands, load_config(args.config, args.cfg_options, args.pair), args.checkpoint, formats, args.out)


if __name__ == '__main__':
    sys.exit(run(main))
