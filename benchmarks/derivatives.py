"""How alike the derivatives of two searches are, and what a refinement gains by them.

The process of ``--initial`` is trained in a round, the held-out loss at its end is differentiated by the weights, and the
process is refined once, with several seeds. The gradient is followed until it has grown by a factor (``max_growth``); 1e9
follows it to the start of the round. It is computed of a share of each batch (``batch_share``); 1 is exact.

    python benchmarks/derivatives.py --teacher TEACHER.pth --out derivatives.csv    # prints two tables
"""
import argparse
import csv
import itertools
import os
import time

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import torch
from mmrazor.registry import LOOPS

from distpro_mm.engine import DistProSearchLoop
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe


@LOOPS.register_module()
class DerivativeLoop(DistProSearchLoop):
    """A search that stores the gradient of its first trial [knots, N], and the processor time of its way back."""

    def end_epoch(self) -> None:
        """Store the gradient."""
        derivatives = self.search.round.derivatives

        def timed() -> torch.Tensor:
            started = time.process_time()
            found = derivatives()
            self.seconds = time.process_time() - started
            return found

        self.search.round.derivatives = timed
        super().end_epoch()
        del self.search.round.derivatives
        if self.search.gradient is not None:
            self.gradient = self.search.gradient


def run(args: argparse.Namespace, seed: int, growth: float, share: float
        ) -> tuple[list[float], torch.Tensor, float]:
    """Held-out losses before and after the refinement, the gradient by alpha [knots, N], and its seconds."""
    cfg = load_config(str(ROOT / 'configs/distpro/search.py'), pair=args.pair)
    folder = os.path.join(args.work_dir, f'{seed}_{growth:g}_{share:g}')
    cfg.update(work_dir=folder, log_level='ERROR', randomness=dict(seed=seed))
    cfg.model.teacher_ckpt = args.teacher
    cfg.train_cfg.update(type='mmrazor.DerivativeLoop', initial=args.initial, rounds=2, references=[], max_divisions=0,
                         max_growth=growth, batch_share=share, searcher=dict(type='RpropSearcher', confirmations=0))
    runner = build_trainer(cfg, report=False)
    runner.train()
    loop = runner.train_loop
    return [trial.loss for trial in loop.searcher.history], loop.gradient, loop.seconds


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', required=True, help="the teacher's checkpoint")
    parser.add_argument('--pair', default='resnet20_resnet8_cifar100-small')
    parser.add_argument('--initial', default='configs/benchmarks/cifar100_frontier_process.json')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--growth', type=float, nargs='+', default=[2.0])
    parser.add_argument('--share', type=float, nargs='+', default=[1.0, 0.25], help='batch_share')
    parser.add_argument('--work-dir', default='work_dirs/derivatives')
    parser.add_argument('--out', required=True, help='file of the losses')
    args = parser.parse_args()
    if not os.path.isdir(os.path.dirname(args.out) or '.'):
        parser.error(f'--out {args.out}: there is no folder {os.path.dirname(args.out)}')
    torch.set_num_threads(1)
    names = ['max_growth', 'batch_share']
    rows, alike = [[*names, 'seed', 'held-out loss before', 'after', 'seconds']], [[*names, 'seeds', 'cosine at each knot']]
    for growth, share in itertools.product(args.growth, args.share):
        gradients, setting = {}, [f'{growth:g}', f'{share:g}']
        for seed in args.seeds:
            losses, gradients[seed], seconds = run(args, seed, growth, share)
            rows.append([*setting, str(seed), *(f'{loss:.3f}' for loss in losses), f'{seconds:.0f}'])
            print(*rows[-1], flush=True)
        for pair in itertools.combinations(args.seeds, 2):
            cosines = torch.cosine_similarity(*(gradients[seed] for seed in pair), dim=1)
            alike.append([*setting, f'{pair[0]}, {pair[1]}', ', '.join(f'{value:.3f}' for value in cosines)])
    with open(args.out, 'w', newline='') as file:
        csv.writer(file).writerows(rows)
    print(describe(), markdown(rows), markdown(alike), sep='\n\n')


if __name__ == '__main__':
    main()
