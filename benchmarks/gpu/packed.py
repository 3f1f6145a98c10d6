"""A part of CIFAR-100 in one small file: images as lossless WebP, one after the other.

    python benchmarks/gpu/packed.py data/cifar100 .gpu/cifar100.npz
"""
import argparse
import io
import os

import numpy as np
from PIL import Image

PARTS = ('train', 'test')


def pack(folder: str, file: str, counts: tuple[int, int]) -> None:
    """Write the first images of each class.

    Args:
        folder (str): Has ``train/<class>/*.png`` and ``test/<class>/*.png``.
        file (str): The file to write.
        counts (tuple[int, int]): Images of each class for training and testing.
    """
    arrays = {}
    for part, count in zip(PARTS, counts):
        encoded, labels = [], []
        for label, name in enumerate(sorted(os.listdir(os.path.join(folder, part)))):
            for image in sorted(os.listdir(os.path.join(folder, part, name)))[:count]:
                buffer = io.BytesIO()
                with Image.open(os.path.join(folder, part, name, image)) as opened:
                    opened.convert('RGB').save(buffer, 'webp', lossless=True, quality=80)
                encoded.append(buffer.getvalue())
                labels.append(label)
        arrays[f'{part}_bytes'] = np.frombuffer(b''.join(encoded), np.uint8)
        arrays[f'{part}_ends'], arrays[f'{part}_labels'] = np.cumsum([len(image) for image in encoded]), np.array(labels)
    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    np.savez(file, **arrays)


def unpack(file: str, limit: int | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The images [N, 32, 32, 3] (uint8, blue first) and labels [N] of 'train' and 'test'.

    Args:
        file (str): A file of :func:`pack`.
        limit (int, optional): Images of each part at most, of all classes in turn. Defaults to None: all.
    """
    parts = {}
    with np.load(file) as arrays:
        for part in PARTS:
            data, ends, labels = (arrays[f'{part}_{name}'] for name in ('bytes', 'ends', 'labels'))
            chosen = np.argsort(np.arange(len(labels)) % (len(labels) // 100), kind='stable')[:limit]
            starts = np.concatenate([[0], ends[:-1]])
            images = [np.asarray(Image.open(io.BytesIO(data[starts[i]:ends[i]].tobytes())))[..., ::-1] for i in chosen]
            parts[part] = np.stack(images), labels[chosen]
    return parts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='CIFAR-100 as train/CLASS/*.png and test/CLASS/*.png')
    parser.add_argument('file')
    parser.add_argument('--train', type=int, default=120, help='training images of each class')
    parser.add_argument('--test', type=int, default=40, help='test images of each class')
    args = parser.parse_args()
    pack(args.folder, args.file, (args.train, args.test))
    print(f'{args.file}: {os.path.getsize(args.file) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
