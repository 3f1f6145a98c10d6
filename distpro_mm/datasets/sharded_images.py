import glob
import os
from collections.abc import Sequence
from typing import Any

import mmcv
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.registry import DATASETS

from distpro.checks import check_that, nearest

from ..errors import ConfigError
from .image_identity import digest

FORMATS = {'.parquet': 'parquet', '.tar': 'webdataset'}
HIDDEN = ('__key__', '__url__')  # columns of a WebDataset that are no data


@DATASETS.register_module()
class ShardedImages(BaseDataset):
    """Images in shards, many in a file: parquet, or tar as WebDataset has them. Read by Hugging Face's ``datasets``.

    At the first use ``datasets`` copies the shards to its cache, from which it reads any image directly, without holding
    the images in memory. So the held-out split by image, shuffling over all images, several processes and resumption are as
    for a folder. The pipeline begins after ``LoadImageFromFile``: images are uint8 [H, W, 3] in BGR order.

    Args:
        data_files (str or Sequence[str]): The shards, relative to ``data_root``; ``*`` and ``?`` match any characters, as in
            ``'train-*.parquet'``.
        image (str, optional): Column of the images: their files as bytes. Defaults to None: the only column of images.
        label (str, optional): Column of the class numbers. Defaults to None: 'label', 'labels' or 'cls'.
        cache_dir (str, optional): Folder of the cache, as large as the shards. Defaults to None: that of ``datasets``
            (``HF_HOME``).
        **kwargs: Of mmpretrain's ``BaseDataset``; ``ann_file`` is not used. ``metainfo=dict(classes=...)`` names the classes
            where the shards do not.

    Raises:
        ConfigError: If ``datasets`` is not installed, no shard is found, or a column is missing or not clear.
    """

    def __init__(self, data_files: str | Sequence[str], image: str | None = None, label: str | None = None,
                 cache_dir: str | None = None, **kwargs) -> None:
        check_that('ShardedImages.data_files', data_files, data_files and (isinstance(data_files, str) or all(
            isinstance(name, str) for name in data_files)), "one file name or several, e.g. 'train-*.parquet'", ConfigError)
        self.data_files = [data_files] if isinstance(data_files, str) else list(data_files)
        self.image, self.label, self.cache_dir = image, label, cache_dir
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """list[dict]: ``gt_label``, and ``img_path``: where the image is, for messages and to tell images apart."""
        try:
            import datasets
        except ImportError as error:
            raise ConfigError("ShardedImages needs Hugging Face's datasets: pip install 'distpro_mm[shards]'") from error
        files = self._files()
        kind = FORMATS[os.path.splitext(files[0])[1]]
        table = datasets.load_dataset(kind, data_files=files, split='train', cache_dir=self.cache_dir)
        columns = {name: feature for name, feature in table.features.items() if name not in HIDDEN}
        images = [name for name, feature in columns.items() if isinstance(feature, datasets.Image)]
        self.image = self._column('image', self.image, images, list(columns))
        self.label = self._column('label', self.label, [name for name in ('label', 'labels', 'cls') if name in columns],
                                  list(columns))
        labels = table.features[self.label]
        if isinstance(labels, datasets.ClassLabel) and not self._metainfo.get('classes'):
            self._metainfo['classes'] = tuple(labels.names)
        self._bytes = table.select_columns([self.image]).cast_column(self.image, datasets.Image(decode=False))
        source = f'{kind}://{files[0]}+{len(files) - 1}:{digest(files).hex()[:8]}'  # others end otherwise
        return [dict(img_path=f'{source}#{index}', gt_label=int(label)) for index, label in enumerate(table[self.label])]

    def _files(self) -> list[str]:
        """The shards, sorted."""
        found = []
        for name in self.data_files:
            matched = sorted(glob.glob(os.path.join(self.data_root or '', name)))
            if not matched:
                raise ConfigError(f"ShardedImages.data_files: there is no file '{os.path.join(self.data_root or '', name)}'")
            found += matched
        kinds = {os.path.splitext(name)[1] for name in found}
        if len(kinds) > 1 or not kinds <= set(FORMATS):
            raise ConfigError(f'ShardedImages.data_files: the files end in {", ".join(sorted(kinds))}, and must all end in '
                              f'{" or all in ".join(FORMATS)}')
        return [os.path.abspath(name) for name in found]

    def _column(self, argument: str, given: str | None, likely: list[str], columns: list[str]) -> str:
        """A column that was given, or the only likely one."""
        if given is not None and given not in columns:
            raise ConfigError(f"ShardedImages.{argument}='{given}'{nearest(given, columns)}: the shards have "
                              f'{", ".join(columns)}')
        if given is None and len(likely) != 1:
            raise ConfigError(f'ShardedImages.{argument} must name one of the columns {", ".join(columns)}; '
                              f'{" and ".join(likely) or "none"} would do')
        return given or likely[0]

    def prepare_data(self, idx: int) -> Any:
        """An image after the pipeline."""
        info = self.get_data_info(idx)
        place = int(info['img_path'].rpartition('#')[2])
        info['img'] = mmcv.imfrombytes(self._bytes[place][self.image]['bytes'])
        info['img_shape'] = info['ori_shape'] = info['img'].shape[:2]
        return self.pipeline(info)
