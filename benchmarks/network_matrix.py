"""Test networks of timm, torchvision and Hugging Face, by name, as teacher and as student of a small CNN.

Each is built with random weights, its layers are found by 'auto', and the student takes one step. The loss must be finite,
the logits must be those that the network returns, every receiving layer must get a gradient, and the student must change.

    python benchmarks/network_matrix.py             # writes docs/networks_matrix.md; about ten minutes on one free core
    python benchmarks/network_matrix.py timm:resnet18 hf:vit --out /tmp/some.md
"""
import argparse
import gc
import json
import pathlib
import time
import warnings
from importlib.metadata import version

import distpro_mm  # noqa: F401  first: patches a torchvision that does not fit torch

# isort: split
import torch
from torch import nn

import distpro
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe
from networks import ALL

CLASSES = 10
VANISHING = 'of random weights: the features of its deeper layers vanish, and have no weight'
NOTES = {'hf:mobilevit': VANISHING, 'hf:mobilevitv2': VANISHING, 'hf:clip_vision_model': 'has no classifier',
         'hf:imagegpt': 'takes the indices of colours, not images', 'hf:perceiver': 'holds latents, not maps'}
LIBRARIES = dict(timm='timm', torchvision='torchvision', hf='transformers')


def partner() -> nn.Module:
    """A small CNN of a stem and two stages, for images of any size."""
    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(),
                             nn.Conv2d(after, after, 3, 1, 1))

    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), block(8, 8), block(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(16, CLASSES))


def layers(kd: distpro.Distillation, side: str) -> str:
    """The layers that 'auto' found on a side, with their shapes."""
    kinds = dict(map='', channels_last=', channels last', tokens=', tokens')
    taps = dict.fromkeys(getattr(pathway, side) for pathway in kd.grid.pathways)
    return '; '.join(f'{tap.layer} ({" x ".join(map(str, tap.shape))}{kinds[tap.layout.kind]})' for tap in taps
                     if tap.name != 'logits')


def attempt(name: str, as_teacher: bool) -> tuple[str, str]:
    """Take one step; returns the layers that were found in the network, and the error; empty if it works."""
    size, options = ALL[name]
    torch.manual_seed(0)
    images, labels, found = torch.randn(2, 3, size, size), torch.arange(2), ''
    try:
        network = distpro.build_network(name, num_classes=CLASSES, **options)
        pair = (partner(), network) if as_teacher else (network, partner())
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            kd = distpro.Distillation(*pair, images, connections='all', compare_at='smaller')
            found = layers(kd, 'transmitter' if as_teacher else 'receiver')
            step(kd, images, labels)
    except Exception as caught:
        text = ' '.join(str(caught).split())
        return found, f'{type(caught).__name__}: {text[:150]}'
    finally:
        gc.collect()
    return found, ''


def step(kd: distpro.Distillation, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Take a step, and check it."""
    with torch.no_grad():
        training = kd.student.training
        kd.student.eval()
        out = kd(images)
        assert torch.equal(out.logits, kd.get_logits(out.output)) and out.logits.shape == (2, CLASSES)
        kd.student.train(training)
    before = [parameter.detach().clone() for parameter in kd.student.parameters()]
    optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], 1e-3)
    kd.student.train()
    out = kd(images)
    loss = nn.functional.cross_entropy(out.logits, labels) + out.loss
    assert loss.isfinite() and len(out.pathways) == len(kd.grid.pathways), f'loss {loss}'
    loss.backward()
    assert all(parameter.grad is not None for parameter in kd.parameters()), 'a transform has no gradient'
    optimizer.step()
    moved = [not torch.equal(one, other) for one, other in zip(before, kd.student.parameters())]
    assert any(moved), 'the student does not change'


def report(outcomes: dict[str, tuple], where: str) -> str:
    """The page."""
    works = {name: not teaches[1] and not taught[1] for name, (teaches, taught) in outcomes.items()}
    counts = {source: [value for name, value in works.items() if name.startswith(f'{source}:')] for source in LIBRARIES}
    counted = ', '.join(f'{sum(values)} of {len(values)} of {LIBRARIES[source]} {version(LIBRARIES[source])}'
                        for source, values in counts.items() if values)
    rows = [['network', 'image size', 'teaches', 'is taught', "layers that 'auto' finds"]]
    for name, (teaches, taught) in outcomes.items():
        cells = [f'no: {error}' if error else 'yes' for _, error in (teaches, taught)]
        note = f'; {NOTES[name]}' if name in NOTES else ''
        rows.append([f'`{name}`', str(ALL[name][0]), *cells, (teaches[0] or taught[0]) + note])
    return f'''# Networks by name: which work

Written by {where}.

Each network is built by `distpro.build_network` with random weights, and is the teacher and the student of a small CNN for
one step: layers are found by 'auto', every transform gets a gradient, and the student changes. Networks are small or shallow
where their library allows it. Rows that `--outcomes` holds are of earlier calls. On both sides work {counted}.

{markdown(rows)}
'''


def main() -> None:
    """Test all networks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', default=list(ALL), help='networks (default: all)')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs/networks_matrix.md')
    parser.add_argument('--outcomes', type=pathlib.Path, help='JSON file that stores outcomes; the page has those of it too')
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in ALL]
    if unknown:
        parser.error(f'{", ".join(unknown)}: not in benchmarks/networks.py, such as {next(iter(ALL))}')
    torch.set_num_threads(1)
    where, outcomes = describe(), {}
    if args.outcomes and args.outcomes.exists():
        outcomes.update(json.loads(args.outcomes.read_text()))
    for name in args.names:
        started = time.time()
        outcomes[name] = attempt(name, True), attempt(name, False)
        print(f'{name} ({time.time() - started:.1f} s): {outcomes[name]}', flush=True)
        if args.outcomes:
            args.outcomes.write_text(json.dumps(outcomes))
    args.out.write_text(report({name: outcomes[name] for name in ALL if name in outcomes}, where))


if __name__ == '__main__':
    main()
