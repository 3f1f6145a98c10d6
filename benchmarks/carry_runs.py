"""Copy the finished runs of a benchmark to another machine, where compare.py continues with the remaining ones.

    python benchmarks/carry_runs.py pack work_dirs/benchmark_cifar100_small docs/results/cifar100_small
    python benchmarks/carry_runs.py unpack docs/results/cifar100_small work_dirs/benchmark_cifar100_small

Copies the figures of every run (``runs.json``), the searched processes and the teacher's weights. Other first stages are
trained again if a remaining run needs them.
"""
import argparse
import json
import pathlib
import sys

from distpro_mm.comparison.training import RESULT  # first: makes the others importable

# isort: split
import torch
from mmengine.runner.checkpoint import _load_checkpoint


def pack(work_dir: pathlib.Path, folder: pathlib.Path, half: bool = False) -> int:
    """Write the necessary files of a benchmark's work_dir to a folder, the teacher in float16 on request.

    Returns:
        int: The number of runs.
    """
    found = {path.parent: json.loads(path.read_text()) for path in sorted(work_dir.glob(f'**/{RESULT}'))}
    stages = {result['after'] for result in found.values()}
    folder.mkdir(parents=True, exist_ok=True)
    runs = {}
    for place, result in found.items():
        run = dict(result=result)
        if (place / 'process.json').exists():
            run['process'] = json.loads((place / 'process.json').read_text())
        elif result['name'] == 'teacher':
            last = max(place.glob('epoch_*.pth'), key=lambda path: int(path.stem.partition('_')[2]))
            run['checkpoint'] = last.name
            weights = _load_checkpoint(str(last), map_location='cpu')['state_dict']
            if half:
                weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
            torch.save(dict(state_dict=weights), folder / 'teacher.pth')
        elif result['name'] in stages:
            continue
        runs[place.relative_to(work_dir).as_posix()] = run
    with open(folder / 'runs.json', 'w') as file:
        json.dump(runs, file, indent=1)
    return len(runs)


def unpack(folder: pathlib.Path, work_dir: pathlib.Path) -> int:
    """Write runs to where compare.py finds them. Returns their number."""
    runs = json.loads((folder / 'runs.json').read_text())
    for place, run in runs.items():
        target = work_dir / place
        target.mkdir(parents=True, exist_ok=True)
        if 'process' in run:
            (target / 'process.json').write_text(json.dumps(run['process']))
        if 'checkpoint' in run:
            (target / run['checkpoint']).write_bytes((folder / 'teacher.pth').read_bytes())
        (target / RESULT).write_text(json.dumps(run['result'], indent=1))
    return len(runs)


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('pack', 'unpack'))
    parser.add_argument('source', type=pathlib.Path)
    parser.add_argument('target', type=pathlib.Path)
    parser.add_argument('--half', action='store_true', help='pack the teacher in float16')
    args = parser.parse_args()
    needed = args.source if args.what == 'pack' else args.source / 'runs.json'
    if not needed.exists():
        sys.exit(f"error: there is no '{needed}'")
    if args.what == 'pack':
        count = pack(args.source, args.target, args.half)
    else:
        count = unpack(args.source, args.target)
    print(f'{count} runs are in {args.target}')


if __name__ == '__main__':
    main()
