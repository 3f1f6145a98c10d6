"""Made-up images in class folders, and tiny networks by name."""
import pathlib

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent.parent
PAIR = ['--data', 'photos', '--teacher', 'module:tiny_nets.large', '--student', 'module:tiny_nets.small', '--image-size', 16,
        '--batch-size', 8, '--train-teacher', 4]
NETWORKS = '''
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width, classes):
        def block(before, after):
            return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes) if classes else nn.Identity()]
        super().__init__(block(3, width), block(width, 2 * width), *head)


def small(num_classes=7):
    return Net(4, num_classes)


def large(num_classes=7):
    return Net(8, num_classes)


def picky(num_classes=7):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 100 * 100, num_classes))


def words():
    return 'no network'
'''
COLOURS = dict(blue=(0, 0, 200), green=(0, 200, 0), red=(200, 0, 0))


def draw(colour, side, random):
    """A noisy square of a colour, of side x (side + 3) pixels."""
    image = np.clip(np.array(colour) + random.normal(0, 40, (side, side + 3, 3)), 0, 255)
    return Image.fromarray(image.astype('uint8'))


def make_photos(folder, random, count=10):
    """Class folders with images of several sizes and modes, some in nested folders."""
    for name, colour in COLOURS.items():
        for index in range(count):
            image = draw(colour, 20 + 3 * index, random)
            place = folder / name / 'more' if index == 1 else folder / name
            place.mkdir(parents=True, exist_ok=True)
            if index == 2:
                image.putalpha(128)
            elif index == 3:
                image = image.convert('P')
            image.save(place / f'{index}.{"jpg" if index == 4 else "png"}')
