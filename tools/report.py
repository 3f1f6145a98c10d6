"""Write report.html of a training or a comparison from the files in its work_dir, or the report of a process file."""
import sys

from distpro_mm.commands import report
from distpro_mm.engine.command_line import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('source', help='work_dir of a training or a comparison, or a process file')
    args = parser.parse_args()
    report(args.source)


if __name__ == '__main__':
    sys.exit(run(main))
