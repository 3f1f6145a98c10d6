"""Write report.html of a finished training or comparison from the files in its work_dir."""
import argparse
import sys

from distpro_mm.engine.command_line import run
from distpro_mm.reporting.report import write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work_dir of a training or a comparison')
    args = parser.parse_args()
    print(f'report: {write_report(args.work_dir)}')


if __name__ == '__main__':
    sys.exit(run(main))
