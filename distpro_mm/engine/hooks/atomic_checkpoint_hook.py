
from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmrazor.registry import HOOKS

from distpro.files import atomic_write


class AtomicFileBackend(LocalBackend):
    """Local files with atomic writes: written to a temporary file and renamed."""

    def put(self, obj: bytes, filepath) -> None:
        """Write a file atomically."""
        with atomic_write(str(filepath)) as temporary, open(temporary, 'wb') as file:
            file.write(obj)


register_backend('distpro_atomic_write', AtomicFileBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Writes mmengine's checkpoints atomically, so that a valid checkpoint exists at any time.

    A checkpoint is written to a temporary file and renamed. Older checkpoints are removed afterwards.

    Args:
        *args, **kwargs: Arguments of mmengine's ``CheckpointHook``.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='mmrazor.AtomicCheckpointHook', interval=10, max_keep_ckpts=1))
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='distpro_atomic_write')

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        steps: list[int] = [old for old in getattr(self, 'keep_ckpt_ids', []) if old != step] + [step]
        limit, self.max_keep_ckpts = self.max_keep_ckpts, -1  # older checkpoints are removed below
        if limit > 0:
            runner.message_hub.update_info('keep_ckpt_ids', steps[-limit:])
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = limit
        if limit > 0:
            self._remove(steps[:-limit])
            self.keep_ckpt_ids = steps[-limit:]

    @master_only
    def _remove(self, steps: list[int]) -> None:
        for step in steps:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
