import os
import zipfile
from typing import List, Optional

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner.checkpoint import _load_checkpoint
from mmrazor.registry import HOOKS

from ...errors import ConfigError, first_line
from ...files import whole_file


class WholeFileBackend(LocalBackend):
    """Local files that are written beside and moved into place."""

    def put(self, obj: bytes, filepath) -> None:
        """Write a file wholly or not at all."""
        with whole_file(str(filepath)) as beside, open(beside, 'wb') as file:
            file.write(obj)


register_backend('distpro_whole_file', WholeFileBackend, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's checkpoints, with never a moment in which there is no whole one.

    A checkpoint is written beside and moved into place, and older ones are removed after that, not before. A checkpoint of
    another model is refused when it is resumed from (mmengine would take what fits and say no more).

    Args:
        *args, **kwargs: Of mmengine's ``CheckpointHook``.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='mmrazor.WholeCheckpointHook', interval=10, max_keep_ckpts=1))
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='distpro_whole_file')

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        kept: List[int] = [old for old in getattr(self, 'keep_ckpt_ids', []) if old != step] + [step]
        limit, self.max_keep_ckpts = self.max_keep_ckpts, -1  # what is too many is removed here
        if limit > 0:
            runner.message_hub.update_info('keep_ckpt_ids', kept[-limit:])
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = limit
        if limit > 0:
            self._remove(kept[:-limit])
            self.keep_ckpt_ids = kept[-limit:]

    @master_only
    def _remove(self, steps: List[int]) -> None:
        for step in steps:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse to resume from the checkpoint of another model."""
        if not runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own, theirs = model.state_dict(), checkpoint['state_dict']
        wrong = [name for name in own if getattr(theirs.get(name), 'shape', None) != getattr(own[name], 'shape', None)]
        if wrong or set(theirs) - set(own):
            more = [name for name in theirs if name not in own]
            raise ConfigError(f'--resume: the checkpoint is of another model: {len(wrong)} of the {len(own)} weights of the '
                              f'config are missing there or have other shapes {wrong[:2]}, and {len(more)} others are in '
                              f'it {more[:2]}; resume with the config that wrote it')


def damage(path: str) -> Optional[str]:
    """What is wrong with a checkpoint that a training is to go on from; None if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return 'a part of it is damaged'
        _load_checkpoint(path, map_location='cpu')
    except Exception as error:  # whatever a damaged file makes the readers of zip and pickle say
        return f'it is cut off, damaged or another file ({type(error).__name__}: {first_line(error)})'
    return None


def newest_whole_checkpoint(folder: str) -> Optional[str]:
    """The newest undamaged checkpoint in a folder, if there is one."""
    if not os.path.isdir(folder):
        return None
    paths = [entry.path for entry in os.scandir(folder) if entry.name.endswith('.pth') and not entry.name.startswith('.')]
    for path in sorted(paths, key=os.path.getmtime, reverse=True):
        if damage(path) is None:
            return path
    return None
