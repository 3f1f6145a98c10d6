"""Images a second that one core loads and augments, from files of ImageNet's size, in several ways.

Photographs cannot be had here, so images are made up: smooth noise of 500 x 375 pixels, as JPEG files of about 100 KB. All
ways take turns; the figures are medians.

    pip install '.[mm,shards]' && python benchmarks/loading_rates.py
"""
import argparse
import pathlib
import statistics
import tempfile
import time

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import cv2
import datasets
import numpy as np
import torch
from mmpretrain.registry import DATASETS
from PIL import Image
from torchvision.transforms import v2

from distpro_mm.engine.config_file import load_config
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe

HEIGHT, WIDTH, QUALITY = 375, 500, 90


def make(folder: pathlib.Path, count: int) -> int:
    """Write the images into a folder and a parquet shard; returns their mean number of bytes."""
    random = np.random.default_rng(0)
    coded = []
    (folder / 'files' / 'a').mkdir(parents=True)
    for index in range(count):
        coarse, fine = (cv2.resize(random.normal(0, scale, (HEIGHT // size, WIDTH // size, 3)), (WIDTH, HEIGHT),
                                   interpolation=cv2.INTER_CUBIC) for scale, size in ((60, 25), (25, 3)))
        image = np.clip(128 + coarse + fine, 0, 255).astype(np.uint8)
        coded.append(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
        (folder / 'files' / 'a' / f'{index:04d}.jpg').write_bytes(coded[-1])
    features = datasets.Features(image=datasets.Image(), label=datasets.Value('int64'))
    datasets.Dataset.from_dict(dict(image=[dict(bytes=image, path=None) for image in coded], label=[0] * count),
                               features).to_parquet(folder / 'train-0.parquet')
    return sum(map(len, coded)) // count


def ways(folder: pathlib.Path) -> dict:
    """By name, what gives an image by its number."""
    pipeline = load_config(str(ROOT / 'configs/distpro/search.py'),
                           pair='resnet34_resnet18_imagenet').train_dataloader.dataset.pipeline
    files = DATASETS.build(dict(type='mmpretrain.CustomDataset', data_root=str(folder / 'files'), pipeline=pipeline))
    shards = DATASETS.build(dict(type='ShardedImages', data_root=str(folder), data_files='train-*.parquet',
                                 cache_dir=str(folder / 'cache'), pipeline=pipeline))
    decode = DATASETS.build(dict(type='mmpretrain.CustomDataset', data_root=str(folder / 'files'), pipeline=pipeline[:1]))
    paths = [decode.get_data_info(index)['img_path'] for index in range(len(decode))]
    on_tensors = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])
    on_pillow = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    return {
        'decoding alone (OpenCV)': decode.__getitem__,
        "files, mmpretrain's pipeline of the configs": files.__getitem__,
        'parquet shards, the same pipeline': shards.__getitem__,
        "files, OpenCV and torchvision's v2 on tensors":
            lambda index: on_tensors(torch.from_numpy(cv2.imread(paths[index])).permute(2, 0, 1)),
        "files, Pillow and torchvision's v2": lambda index: on_pillow(Image.open(paths[index]).convert('RGB'))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=200, help='images of a turn')
    parser.add_argument('--turns', type=int, default=7, help='turns of each way')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        size = make(pathlib.Path(name), args.images)
        found = ways(pathlib.Path(name))
        seconds: dict[str, list[float]] = {way: [] for way in found}
        for turn in range(args.turns + 1):  # the first one warms up
            for way, load in found.items():
                start = time.perf_counter()
                for index in range(args.images):
                    load(index)
                if turn:
                    seconds[way].append(time.perf_counter() - start)
    print(f'{args.images} images of {WIDTH} x {HEIGHT} pixels and {size / 1e3:.0f} KB, one thread; {describe()}\n')
    print(markdown([['way', 'images a second on one core'],
                    *([way, f'{args.images / statistics.median(found):.0f}'] for way, found in seconds.items())]))


if __name__ == '__main__':
    main()
