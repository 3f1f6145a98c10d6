import collections
import glob
import os
from collections.abc import Sequence
from typing import Any

from mmengine.fileio import BaseStorageBackend, register_backend
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.registry import DATASETS

from distpro.checks import check_that, nearest

from ..errors import ConfigError

FORMATS = {'.parquet': 'parquet', '.tar': 'webdataset'}
PREFIX = 'shards'
HIDDEN = ('__key__', '__url__')  # columns of a WebDataset that are no data

_shards: dict[str, tuple[Any, str, int]] = {}  # by path and column: table, column of images, row of the shard's first one


class ShardBackend(BaseStorageBackend):
    """Reads the images of shards that a :class:`ShardedImages` of this process has opened: ``shards://<path>?<column>#<row>``."""

    def get(self, filepath: str) -> bytes:
        """bytes: An image, as in its file."""
        path, _, row = str(filepath).partition('://')[2].rpartition('#')
        table, column, first = _shards[path]
        return table[first + int(row)][column]['bytes']

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Not for images."""
        raise NotImplementedError


register_backend(PREFIX, ShardBackend, prefixes=PREFIX)


@DATASETS.register_module()
class ShardedImages(BaseDataset):
    """Images in shards, many in a file: parquet, or tar as WebDataset has them. Read by Hugging Face's ``datasets``.

    At the first use ``datasets`` copies the shards to its cache, from which it reads any image directly, without holding
    the images in memory. Pipelines, the held-out split by image, shuffling over all images, several processes and resumption
    are as for a folder: an image's path is ``shards://<path of the shard>?<column>#<row>``, which ``LoadImageFromFile``
    loads.

    Args:
        data_files (str or Sequence[str]): The shards, relative to ``data_root``; ``*`` and ``?`` match any characters, as in
            ``'train-*.parquet'``. A shard that is named twice counts once.
        image (str, optional): Column of the images: their files as bytes. Defaults to None: the only column of images.
        label (str, optional): Column of the class numbers. Defaults to None: 'label', 'labels' or 'cls'.
        cache_dir (str, optional): Folder of the cache, as large as the shards. Defaults to None: that of ``datasets``
            (``HF_HOME``).
        **kwargs: Of mmpretrain's ``BaseDataset``, without ``ann_file``. ``metainfo=dict(classes=...)`` names the classes
            where the shards do not.

    Raises:
        ConfigError: If ``datasets`` is not installed, no shard is found, or a column is missing, not clear, or no class
            numbers.
    """

    def __init__(self, data_files: str | Sequence[str], image: str | None = None, label: str | None = None,
                 cache_dir: str | None = None, **kwargs) -> None:
        check_that('ShardedImages.data_files', data_files, data_files and (isinstance(data_files, str) or all(
            isinstance(name, str) for name in data_files)), "one file name or several, e.g. 'train-*.parquet'", ConfigError)
        if kwargs.pop('ann_file', ''):
            raise ConfigError('ShardedImages.ann_file: the labels are a column of the shards; name it by label')
        self.data_files = [data_files] if isinstance(data_files, str) else list(data_files)
        self.image, self.label, self.cache_dir = image, label, cache_dir
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """list[dict]: ``img_path`` and ``gt_label`` of each image."""
        try:
            import datasets
        except ImportError as error:
            raise ConfigError("ShardedImages needs Hugging Face's datasets: pip install 'distpro_mm[shards]'") from error
        files = self._files()
        table = datasets.load_dataset(FORMATS[os.path.splitext(files[0])[1]], data_files=files, split='train',
                                      cache_dir=self.cache_dir)
        columns = {name: feature for name, feature in table.features.items() if name not in HIDDEN}
        images = [name for name, feature in columns.items()
                  if isinstance(feature, datasets.Image) or getattr(feature, 'dtype', None) in ('binary', 'large_binary')]
        self.image = self._column('image', self.image, images, list(columns))
        self.label = self._column('label', self.label, [name for name in ('label', 'labels', 'cls') if name in columns],
                                  list(columns))
        labels = table.features[self.label]
        if isinstance(labels, datasets.ClassLabel) and not self._metainfo.get('classes'):
            self._metainfo['classes'] = tuple(labels.names)
        self._table = table.select_columns([self.image]).cast_column(self.image, datasets.Image(decode=False))
        self._first_rows = dict(zip(files, _first_rows(table, files)))
        self._open()
        names = [f'{PREFIX}://{path}?{self.image}#{row}' for path, row in _places(self._first_rows, len(table))]
        return [dict(img_path=name, gt_label=self._number(label)) for name, label in zip(names, table[self.label])]

    def _open(self) -> None:
        """Make the images readable in this process."""
        for path, first in self._first_rows.items():
            _shards[f'{path}?{self.image}'] = self._table, self.image, first

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if '_first_rows' in state:  # in a worker that is started by spawn
            self._open()

    def _files(self) -> list[str]:
        """The real paths of the shards, each once."""
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
        return list(dict.fromkeys(os.path.realpath(name) for name in found))

    def _column(self, argument: str, given: str | None, likely: list[str], columns: list[str]) -> str:
        """A column that was given, or the only likely one."""
        if given is not None and given not in columns:
            raise ConfigError(f"ShardedImages.{argument}='{given}'{nearest(given, columns)}: the shards have "
                              f'{", ".join(columns)}')
        if given is None and len(likely) != 1:
            raise ConfigError(f'ShardedImages.{argument} must name one of the columns {", ".join(columns)}; '
                              f'{" and ".join(likely) or "none"} would do')
        return given or likely[0]

    def _number(self, label: Any) -> int:
        """A class number."""
        try:
            return int(label)
        except (TypeError, ValueError):
            raise ConfigError(f"ShardedImages.label='{self.label}': {label!r} is not a class number; give a column of "
                              "numbers (class_encode_column of datasets makes one)") from None


def _first_rows(table: Any, files: list[str]) -> list[int]:
    """The row of each file's first image, in the table of all."""
    if '__url__' in table.features:
        counted = collections.Counter(table['__url__'])
        counts = [counted[path] for path in files]
    else:
        import pyarrow.parquet
        counts = [pyarrow.parquet.read_metadata(path).num_rows for path in files]
    return [sum(counts[:place]) for place in range(len(files))]


def _places(first_rows: dict[str, int], total: int) -> list[tuple[str, int]]:
    """Shard and row in it of each image of the table."""
    found = []
    for (path, first), end in zip(first_rows.items(), [*list(first_rows.values())[1:], total]):
        found += [(path, row) for row in range(end - first)]
    return found
