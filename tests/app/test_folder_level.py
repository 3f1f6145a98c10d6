"""``distpro distill`` starts again with lower weights where those of a process are too high."""
import json

import torch
from folder_runs import PAIR

from distpro.process import DistillationProcess
from distpro.weighting import Weighting


def test_a_student_that_diverges_starts_again_with_lower_weights(photos, command, tmp_path):
    names = ['a>x:pointwise', 'b>y:pointwise', 'logits>logits:kl']
    process = DistillationProcess(names, Weighting('absolute', unit='variance'), [0, 1], [[2e3, 2e3, 1]] * 2)
    process.save(str(tmp_path / 'too_high.json'))
    done = command('distill', *PAIR, '--epochs', 20, '--formats', 'none', '--process', 'too_high.json', '--out', 'run')
    assert done.returncode == 0, done.stderr
    assert 'starts again from its initial weights' in done.stdout and 'multiplied by 0.25 from here on' in done.stdout
    assert 0 <= json.loads((tmp_path / 'run' / 'summary.json').read_text())['student']['accuracy'] <= 1
    level = torch.load(tmp_path / 'run' / 'checkpoint.pth', weights_only=True)['level']
    assert level['factor'] == 4.0**-done.stdout.count('starts again')


def test_pathways_that_outweigh_the_labels_are_named_once(photos, command, tmp_path):
    names = ['a>x:pointwise', 'b>y:pointwise', 'logits>logits:kl']
    weights = [[1, 1, 1], [1, 1, 1], [2e3, 2e3, 1], [2e3, 2e3, 1]]
    process = DistillationProcess(names, Weighting('absolute', unit='variance'), [0, 0.4, 0.5, 1], weights)
    process.save(str(tmp_path / 'late.json'))
    done = command('distill', *PAIR, '--epochs', 10, '--formats', 'none', '--process', 'late.json', '--out', 'run', '--lr',
                   1e-4)
    assert done.returncode == 0, done.stderr
    line, = (line for line in done.stdout.splitlines() if 'the weighted losses of the pathways' in line)
    assert 'times the cross-entropy of' in line and '--process' in line
