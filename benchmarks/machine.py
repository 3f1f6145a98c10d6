"""Where a figure was measured: command, commit, machine and versions."""
import os
import pathlib
import platform
import subprocess
import sys

import torch

ROOT = pathlib.Path(__file__).parents[1]


def describe() -> str:
    """str: The command, the commit of this checkout, and the machine, in one line of Markdown."""
    def told(*command: str) -> str:
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:  # a machine without git
            return ''

    processor = platform.processor()
    if os.path.exists('/proc/cpuinfo'):
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
        processor = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), processor)
    device = f'{torch.get_num_threads()} threads of {processor}'
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    changed = ' with changes' if told('git', 'status', '--porcelain', '--untracked-files=no') else ''
    return (f'`python {" ".join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])}` at commit '
            f'{told("git", "rev-parse", "--short", "HEAD")}{changed}; {device}; torch {torch.__version__}')
