"""Find the checkpoint to resume from, and compare its settings with the current config."""
import ast
import os
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner.checkpoint import _load_checkpoint

from distpro.errors import first_line

from ..config_types import name_of
from ..errors import ConfigError

PARTS = ('state_dict', 'optimizer', 'message_hub', 'meta')
# Config keys that affect the result of a training. IRRELEVANT: keys inside them that do not, or whose content is compared.
DECISIVE = ('model', 'data_preprocessor', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
            'custom_hooks', 'auto_scale_lr')
PLACES = r'data_root|backend_args|file_client_args|download'  # the same data elsewhere
IRRELEVANT = re.compile(
    r'custom_hooks\.\d+\.process\b|model\.(teacher_ckpt|teacher\.init_cfg|architecture\.init_cfg)\b|(.*\.)?(pretrained|with_cp)$'
    r'|train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)$'
    rf'|train_dataloader\.(.*\.)?({PLACES})\b'
    rf'|train_cfg\.(val_begin|val_interval|dynamic_intervals|memory|held_out_dataloader\.(num_workers|(.*\.)?({PLACES})))\b')
OBSERVERS = ('ProfileHook', 'ProcessRecordHook', 'VisualizationHook', 'EarlyStoppingHook',
             'EmptyCacheHook', 'ProfilerHook', 'LoggerHook', 'CheckpointHook', 'AtomicCheckpointHook', 'IterTimerHook',
             'ClassNumCheckHook', 'InitialStudentHook', 'LoadCheckpointHook', 'ReportHook', 'ProgressHook')
FOLLOWED = re.compile(
    r'train_cfg\.max_(epochs|iters)$|param_scheduler\b|optim_wrapper\.((alpha|meta)\.)?optimizer\.(?!type)')


def missing_parts(checkpoint: Any) -> list[str]:
    """Parts that are missing to resume a training from a checkpoint; empty if it is complete."""
    if not isinstance(checkpoint, dict):
        return list(PARTS)
    meta = checkpoint.get('meta')
    return [part for part in PARTS if part not in checkpoint] + [
        f"'{key}' in meta" for key in ('epoch', 'iter') if isinstance(meta, dict) and key not in meta]


def why_not_resumable(path: str) -> str | None:
    """Why a training cannot resume from a checkpoint.

    Args:
        path (str): The file.

    Returns:
        str: The reason; None if the checkpoint is valid.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return 'a part of it is damaged'
        missing = missing_parts(_load_checkpoint(path, map_location='cpu'))
    except Exception as error:  # damaged files raise many types of errors in zip and pickle
        return f'it is incomplete, damaged or not a checkpoint ({type(error).__name__}: {first_line(error)})'
    if missing:
        return (f'it has no {", ".join(missing)}: it has the weights only, not the state of a training (use load_from or '
                'teacher_ckpt)')
    return None


def latest_training_checkpoint(folders: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The latest valid checkpoint of a training.

    Checkpoints are ordered by the time and the iteration in their ``meta``. A copy changes the times and names of files.

    Args:
        folders (Sequence[str]): Folders to search.

    Returns:
        tuple[str or None, dict[str, str]]: Its path; and the invalid checkpoints found, each with the reason.
    """
    found, refused = [], {}
    for folder in folders:
        for entry in os.scandir(folder) if os.path.isdir(folder) else ():
            if not entry.name.endswith('.pth') or entry.name.startswith('.'):
                continue
            try:
                checkpoint = torch.load(entry.path, map_location='cpu', mmap=True, weights_only=True)  # lazy: no weights
            except Exception:
                refused[entry.path] = why_not_resumable(entry.path) or 'it is of an old format'
                continue
            missing = missing_parts(checkpoint)
            if missing:
                refused[entry.path] = f'it has no {", ".join(missing)}'
            else:
                meta = checkpoint['meta']
                found.append((str(meta.get('time', '')), meta['iter'], entry.path))
    for _, _, path in sorted(found, reverse=True):
        reason = why_not_resumable(path)
        if reason is None:
            return path, refused
        refused[path] = reason
    return None, refused


def seed_of(path: str) -> int | None:
    """int, optional: The seed of the run that wrote a checkpoint."""
    return _load_checkpoint(path, map_location='cpu')['meta'].get('seed')


def is_followed(key: str) -> bool:
    """bool: Whether a change of the setting takes effect in a resumed run."""
    return FOLLOWED.match(key) is not None


def changed_settings(before: str | None, now: str) -> dict[str, tuple] | None:
    """Settings that affect the result of a training and differ between two configs.

    Args:
        before (str, optional): The config text that mmengine writes into a checkpoint. It is parsed, not executed.
        now (str): The current config, in the same format.

    Returns:
        dict[str, tuple]: Old and new value by dotted key, None for a missing value. None if a config cannot be parsed.
    """
    try:
        old, new = (_settings(text) for text in (before, now))
    except (SyntaxError, ValueError, TypeError):
        return None
    return {key: (old.get(key), new.get(key)) for key in {**old, **new}
            if old.get(key) != new.get(key) and not IRRELEVANT.match(key)}


def _settings(text: str) -> dict[str, Any]:
    """The settings of a config's text that affect the result, by dotted key."""
    flat: dict[str, Any] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = dict(enumerate(value))
        if isinstance(value, dict) and value:
            for part, item in value.items():
                add(f'{key}.{part}', item)
        elif value not in (None, {}, []):
            flat[key] = value

    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign):
            raise ValueError(text)
        key, value = statement.targets[0].id, _value(statement.value)
        if key == 'custom_hooks':
            value = [hook for hook in value or [] if name_of(hook.get('type')) not in OBSERVERS]
        if key in DECISIVE:
            add(key, value)
    return flat


def _value(node: ast.AST) -> Any:
    """Evaluate literals, dicts and lists; return other expressions as text."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def checkpoint_to_resume(cfg: Config, resume: str) -> str | None:
    """The checkpoint to resume from; None if the work_dir has none yet.

    Raises:
        ConfigError: If the checkpoint is missing, damaged or not of a training. The message has the latest valid one.
    """
    if resume == 'auto':
        folders = [cfg.work_dir]
        out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
        if out_dir is not None:  # mmengine makes a folder for each work_dir there
            folders.append(os.path.join(out_dir, os.path.basename(cfg.work_dir.rstrip('/'))))
        latest, others = latest_training_checkpoint(folders)
        if latest is None:
            listed = ''.join(f"; '{path}': {reason}" for path, reason in list(others.items())[:3])
            start = f"the weights of load_from='{cfg.load_from}'" if cfg.get('load_from') else 'the beginning'
            print_log(f"--resume: no checkpoint of a training is in {' or '.join(map(repr, folders))}{listed}: training "
                      f'starts from {start}', 'current', 30)
        return latest
    latest, _ = latest_training_checkpoint([os.path.dirname(os.path.abspath(resume))])
    instead = f"the latest checkpoint of a training there is '{latest}'" if latest else 'there is no other in its folder'
    if not os.path.isfile(resume):
        raise ConfigError(f"--resume '{resume}': there is no such checkpoint; {instead}; --resume without a value takes the "
                          'latest in the work_dir')
    wrong = why_not_resumable(resume)
    if wrong is not None:
        raise ConfigError(f"--resume '{resume}': {wrong}; {instead}")
    return resume
