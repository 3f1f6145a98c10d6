import cv2
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    """folder(counts, name='train', seed=0): config of a CustomDataset with this number of made-up images of each class."""

    def make(counts, name='train', seed=0):
        random = np.random.RandomState(seed)
        for label, count in counts.items():
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(count):
                image = random.randint(0, 256, (6, 6, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / name / label / f'{label}_{number}.png'), image)
        return dict(type='CustomDataset', data_root=str(tmp_path / name),
                    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])

    return make
