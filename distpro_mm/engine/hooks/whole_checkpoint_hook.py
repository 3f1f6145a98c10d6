from typing import List

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmrazor.registry import HOOKS

from distpro.files import atomic_write


class WholeFileBackend(LocalBackend):
    """Local files that are written beside and moved into place."""

    def put(self, obj: bytes, filepath) -> None:
        """Write a file wholly or not at all."""
        with atomic_write(str(filepath)) as beside, open(beside, 'wb') as file:
            file.write(obj)


register_backend('distpro_atomic_write', WholeFileBackend, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's checkpoints, with never a moment in which there is no whole one.

    A checkpoint is written beside and moved into place, and older ones are removed after that, not before.

    Args:
        *args, **kwargs: Of mmengine's ``CheckpointHook``.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='mmrazor.WholeCheckpointHook', interval=10, max_keep_ckpts=1))
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='distpro_atomic_write')

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
