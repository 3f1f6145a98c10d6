"""Segmentation of composed CIFAR-100 images: student, KD, constant weights, ramp, 'general' and an own search, three seeds.

``python benchmarks/segmentation.py`` trains all unfinished runs, in a plain loop with ``distpro``, and prints the table.
Every image has two objects, CIFAR images of five classes behind masks, on an image of ten other classes. The task is to find
the class of each pixel. The teacher is a larger network, which has seen ten times as many images. Weights of rivals are
chosen on validation images; the table is of test images.
"""
import argparse
import functools
import itertools
import json
import os
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), 'settings')]

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import data  # noqa: E402
import distpro  # noqa: E402
from distpro_mm.reporting.table import markdown, paired_difference  # noqa: E402
from settings import CIFAR, RAMP  # noqa: E402

SIDE, OBJECT, CLASSES = 32, 17, 6  # pixels of an image and of an object; five classes and the background
OBJECTS = (0, 2, 5, 7, 9)  # of twenty classes: apples, bowls, couches, girls, lobsters
COUNTS = dict(train=500, val=300, test=1000, teacher=4000)
EPOCHS, TEACHER_EPOCHS, BATCH = 12, 10, 16
SEEDS = (0, 1, 2)
GRIDS = dict(  # tuned on validation images
    kd=[dict(weight=weight) for weight in (0.01, 0.03, 0.1, 0.3, 1, 3, 10)],
    cwd=[dict(weight=weight) for weight in (0.1, 0.3, 1, 3, 10)],
    constant=[*(dict(features=features, logits=logits) for features in (3, 10, 30, 100) for logits in (0.3, 3)),
              dict(features=300, logits=0.3), dict(features=100, logits=0.1), dict(features=300, logits=0.1)])
METHODS = ('student', 'kd', 'cwd', 'constant', 'ramp', 'general', 'distpro')


def compose(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images [count, 3, SIDE, SIDE] and the classes of their pixels [count, SIDE, SIDE], 0 for the background."""
    random = np.random.RandomState(seed)
    objects, backgrounds = np.flatnonzero(np.isin(labels, OBJECTS)), np.flatnonzero(labels >= 10)
    canvases, classes = np.empty((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, SIDE, SIDE), np.int64)
    for number in range(count):
        canvas = Image.fromarray(images[random.choice(backgrounds)]).resize((SIDE, SIDE), Image.BILINEAR)
        for index in random.choice(objects, 2, replace=False):
            side = random.randint(OBJECT - 4, OBJECT + 5)
            mask = Image.new('L', (side, side))
            draw = ImageDraw.Draw(mask)
            [draw.ellipse, draw.rectangle][random.randint(2)]([1, 1, side - 2, side - 2], fill=255)
            left, top = random.randint(0, SIDE - side + 1, 2)
            canvas.paste(Image.fromarray(images[index]).resize((side, side), Image.BILINEAR), (int(left), int(top)), mask)
            inside = np.asarray(mask) > 0
            classes[number, top:top + side, left:left + side][inside] = OBJECTS.index(labels[index]) + 1
        canvases[number] = np.asarray(canvas)
    pixels = torch.from_numpy(canvases).permute(0, 3, 1, 2).contiguous()  # channels last, torch 2.13 crashes on some CPUs
    return (pixels.float() - 110) / 60, torch.from_numpy(classes)


@functools.cache
def part(name: str) -> tuple[Tensor, Tensor]:
    """Images and classes of a part of :data:`COUNTS`. Validation and test are of CIFAR images that no other part has."""
    parts = data.make_cifar(CIFAR, 32, 20, 400)
    return compose(*parts.get(name, parts['train']), COUNTS[name], list(COUNTS).index(name))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        same = width == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, out, h, w]."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Segmentor(nn.Module):
    """A residual network with stages of 1/1, 1/2, 1/4 and 1/8 of the size, and a head on the maps of the last three."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(Block(before, after, 1 if stage == 0 else 2), *(Block(after, after, 1) for _ in range(blocks - 1)))
            for stage, (before, after) in enumerate(zip([width, *widths], widths)))
        self.lateral = nn.ModuleList(nn.Conv2d(channels, 4 * width, 1) for channels in widths[1:])
        self.classify = nn.Conv2d(4 * width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each pixel [B, CLASSES, H, W]."""
        size, total, x = x.shape[2:], 0, self.stem(x)
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                total = total + F.interpolate(self.lateral[number - 1](x), (size[0] // 2, size[1] // 2), mode='bilinear')
        return F.interpolate(self.classify(F.relu(total)), size, mode='bilinear')


def by_pixel(logits: Tensor) -> Tensor:
    """Logits with a row for each pixel [B x H x W, K]."""
    return logits.movedim(1, 3).flatten(0, 2)


def pixel_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the classes of a pixel, mean over the pixels."""
    return distpro.pathways.KLDivergence(4)(by_pixel(student), by_pixel(teacher))


def channel_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """CWD (ICCV 2021): divergence of the pixels of a class at temperature 4, mean over the classes."""
    log_q, log_p = ((logits / 4).flatten(2).log_softmax(2) for logits in (student, teacher))
    return 16 * F.kl_div(log_q, log_p, reduction='none', log_target=True).sum(2).mean()


def batches(images: Tensor, classes: Tensor):
    """Batches in random order, flipped at random."""
    for chosen in torch.randperm(len(images)).split(BATCH)[:len(images) // BATCH]:
        x, y = images[chosen], classes[chosen]
        flipped = torch.rand(len(x)) < 0.5
        yield torch.where(flipped[:, None, None, None], x.flip(3), x), torch.where(flipped[:, None, None], y.flip(2), y)


class Loader:
    """Batches anew in each pass."""

    def __init__(self, images: Tensor, classes: Tensor) -> None:
        self.parts = images, classes

    def __iter__(self):
        return batches(*self.parts)

    def __len__(self) -> int:
        return len(self.parts[0]) // BATCH


def mean_iou(network: nn.Module, name: str) -> float:
    """Mean intersection over union of all classes in %, of a part."""
    images, classes = part(name)
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(batch).argmax(1) for batch in images.split(100)])
    counts = torch.bincount(classes.flatten() * CLASSES + found.flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    return 100 * float((counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())).mean())


def adamw(parameters) -> torch.optim.Optimizer:
    """The optimiser of all trainings."""
    return torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05)


def train(network: nn.Module, images: Tensor, classes: Tensor, epochs: int, kd=None, added=None) -> None:
    """Train a network, with a distillation or with an added loss of images and logits."""
    steps = epochs * (len(images) // BATCH)
    parameters = [*network.parameters(), *(kd.parameters() if kd else [])]
    optimizer = adamw(parameters)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for step, (x, y) in enumerate(itertools.chain.from_iterable(batches(images, classes) for _ in range(epochs))):
        if kd:
            out = kd(x, progress=step / (steps - 1))
            loss = F.cross_entropy(out.output, y) + out.loss
        else:
            logits = network(x)
            loss = F.cross_entropy(logits, y) + (added(x, logits) if added else 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


class Bench:
    """The runs. Finished runs are not repeated.

    Args:
        folder (str): Where results are written.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    @functools.cached_property
    def teacher(self) -> nn.Module:
        """Segmentor: The teacher."""
        torch.manual_seed(0)
        network, file = Segmentor(16, 2), os.path.join(self.folder, 'teacher.pth')
        if not os.path.exists(file):
            train(network, *part('teacher'), TEACHER_EPOCHS)
            torch.save(network.state_dict(), file)
        network.load_state_dict(torch.load(file))
        return network.eval()

    @functools.cached_property
    def process(self) -> str:
        """str: File of the process of a search on four fifths of the training images."""
        file = os.path.join(self.folder, 'process.json')
        if not os.path.exists(file):
            torch.manual_seed(0)
            images, classes = part('train')
            cut = 4 * len(images) // 5
            began = time.time()
            process = distpro.search(
                Segmentor(8, 1), self.teacher, Loader(images[:cut], classes[:cut]), Loader(images[cut:], classes[cut:]),
                lambda logits, classes: F.cross_entropy(logits, classes.flatten()), adamw, EPOCHS, get_logits=by_pixel)
            process.save(file)
            print(f'search: {time.time() - began:.0f} s', flush=True)
        return file

    def accuracy(self, method: str, seed: int, settings: dict, name: str = 'test') -> float:
        """Mean intersection over union in % of a run."""
        key = '_'.join(map(str, [method, seed, name, *settings.values()]))
        file = os.path.join(self.folder, f'{key}.json')
        if os.path.exists(file):
            with open(file) as content:
                return json.load(content)
        torch.manual_seed(seed)
        student = Segmentor(8, 1)
        images, classes = part('train')
        kd = added = None
        if method in ('kd', 'cwd'):
            loss = pixel_kl if method == 'kd' else channel_kl

            def added(x: Tensor, logits: Tensor) -> Tensor:
                with torch.no_grad():
                    target = self.teacher(x)
                return settings['weight'] * loss(logits, target)
        elif method != 'student':
            process = dict(
                constant=lambda: dict(progress=[0], weights={part: [weight] for part, weight in settings.items()}),
                ramp=lambda: RAMP, general=lambda: 'general', distpro=lambda: self.process)[method]()
            connections = 'student_not_shallower' if method == 'distpro' else 'nearest_depth'  # those of the search
            kd = distpro.Distillation(student, self.teacher, images[:2], connections=connections, process=process,
                                      steps=EPOCHS * (len(images) // BATCH), get_logits=by_pixel)
        began = time.time()
        torch.manual_seed(seed)
        train(student, images, classes, EPOCHS, kd, added)
        if kd:
            kd.close()
        found = mean_iou(student, name)
        with open(file, 'w') as content:
            json.dump(found, content)
        print(f'{key}: {found:.1f} ({time.time() - began:.0f} s)', flush=True)
        return found

    def chosen(self, method: str) -> dict:
        """dict: The settings with the highest value on validation images."""
        grid = GRIDS.get(method, [{}])
        return max(grid, key=lambda settings: self.accuracy(method, 100, settings, 'val')) if len(grid) > 1 else grid[0]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--seeds', nargs='+', type=int, default=SEEDS)
    parser.add_argument('--work-dir', default='work_dirs/segmentation')
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args.work_dir)
    print(f'teacher: {mean_iou(bench.teacher, "test"):.1f}', flush=True)
    rows, scores = [['method', 'settings', 'mIoU (%)', 'mean', 'against kd', '95% interval']], {}
    for method in args.methods:
        settings = bench.chosen(method)
        scores[method] = {seed: bench.accuracy(method, seed, settings) for seed in args.seeds}
        paired = paired_difference(scores[method], scores['kd']) if 'kd' in scores else None
        values = list(scores[method].values())
        rows.append([method, ', '.join(f'{key} {value:g}' for key, value in settings.items()),
                     ', '.join(f'{value:.1f}' for value in values), f'{sum(values) / len(values):.1f}',
                     f'{paired[0]:+.1f}' if paired else '', f'{paired[1]:+.1f} to {paired[2]:+.1f}' if paired else ''])
    print(markdown(rows))


if __name__ == '__main__':
    main()
