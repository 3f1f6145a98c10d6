"""Made-up images, and a shipped config cut down to two steps on them."""
from collections.abc import Sequence

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import numpy as np
from mmengine.config import Config
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module()
class MadeUpImages(BaseDataset):
    """Noise, the same in every run: neither the cost of a step nor whether it works depends on the content of images.

    Args:
        shape (Sequence[int]): [C, H, W] of the images.
        count (int): Number of images.
        classes (int): Number of classes, taken in turn. Defaults to 2.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``, for example ``pipeline``.
    """

    def __init__(self, shape: Sequence[int], count: int, classes: int = 2, **kwargs) -> None:
        self.shape, self.count, self.classes = shape, count, classes
        super().__init__(ann_file='', metainfo=dict(classes=[str(label) for label in range(classes)]), **kwargs)

    def load_data_list(self) -> list[dict]:
        """list[dict]: Images [H, W, C] and their labels."""
        channels, *size = self.shape
        noise = np.random.RandomState(0).randint(0, 256, (self.count, *size, channels)).astype(np.uint8)
        return [dict(img=image, gt_label=index % self.classes) for index, image in enumerate(noise)]


def two_steps(cfg: Config, shape: Sequence[int]) -> None:
    """Change a config to two training steps of two made-up images of two classes, without evaluation.

    Args:
        cfg (Config): Modified in place. For a search (recognised by its loop), two more images are held out.
        shape (Sequence[int]): [C, H, W] of the images.
    """
    search = 'DistPro' in cfg.train_cfg.type
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers, loader.collate_fn = 2, 0, dict(type='default_collate')
    loader.dataset = dict(type='MadeUpImages', shape=shape, count=6 if search else 4, pipeline=[dict(type='PackInputs')])
    if search:
        cfg.train_cfg.held_out = dict(ratio=0.34)
    cfg.train_cfg.max_epochs = 1
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg.pop(key)
