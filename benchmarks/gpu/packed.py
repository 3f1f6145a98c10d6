"""A part of CIFAR-100 in one small file: images as lossless WebP, one after the other.

    python benchmarks/gpu/packed.py pack data/cifar100 .gpu/cifar100.npz
    python benchmarks/gpu/packed.py unpack .gpu/cifar100.npz data/cifar100
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


def unpack(file: str, folder: str) -> None:
    """Write the images of a file of :func:`pack` as ``folder/{train,test}/<class>/<number>.png``.

    Args:
        file (str): The file.
        folder (str): The folder to create.
    """
    with np.load(file) as arrays:
        for part in PARTS:
            data, ends, labels = (arrays[f'{part}_{name}'] for name in ('bytes', 'ends', 'labels'))
            for label in np.unique(labels):
                os.makedirs(os.path.join(folder, part, f'{label:02}'), exist_ok=True)
            for number, (start, end, label) in enumerate(zip([0, *ends], ends, labels)):
                with Image.open(io.BytesIO(data[start:end].tobytes())) as image:
                    image.save(os.path.join(folder, part, f'{label:02}', f'{number:05}.png'), compress_level=1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=('pack', 'unpack'))
    parser.add_argument('source', help='pack: CIFAR-100 as train/CLASS/*.png and test/CLASS/*.png; unpack: the file')
    parser.add_argument('result', help='pack: the file; unpack: the folder')
    parser.add_argument('--train', type=int, default=120, help='training images of each class to pack')
    parser.add_argument('--test', type=int, default=40, help='test images of each class to pack')
    args = parser.parse_args()
    if not os.path.exists(args.source):
        parser.error(f"there is no '{args.source}'")
    if args.task == 'unpack':
        return unpack(args.source, args.result)
    pack(args.source, args.result, (args.train, args.test))
    print(f'{args.result}: {os.path.getsize(args.result) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
