"""Where the result of a training comes from."""
import hashlib
import multiprocessing
import os
import os.path as osp
import shlex
import sys
from collections.abc import Callable

import mmengine
import torch
from torch import nn

from ..config_types import name_of
from .unwrap import unwrap

ENVIRONMENT = ('PAIR', 'CIFAR100')  # variables that configs read


def origin(runner) -> dict:
    """Provenance of a training, without paths of this machine: config, data set, networks, length, seed and versions.

    Args:
        runner (Runner): The runner, during or after the training.

    Returns:
        dict: ``teacher`` is None for a training without a teacher.
    """
    cfg, model = runner.cfg, unwrap(runner.model)
    configs = cfg.get('model') or {}  # none if the model was given as a module

    def network(part: dict | None, built: nn.Module) -> str:
        if not isinstance(part, dict):
            return type(getattr(built, 'module', built)).__name__
        backbone = part.get('backbone', {})
        arguments = ', '.join(f'{key}={value!r}' for key, value in backbone.items() if key not in ('type', 'init_cfg'))
        return f'{name_of(backbone.get("type", part.get("type")))}({arguments})'

    taught = hasattr(model, 'teacher')
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    return dict(
        config=osp.basename(cfg.filename) if cfg.filename else None,
        config_hash=hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16],
        dataset=name_of(dataset['type']) if dataset else None,
        teacher=_several(network, configs.get('teacher'), model) if taught else None,
        student=network(configs.get('architecture') if taught else configs or None, getattr(model, 'student', model)),
        epochs=runner.max_epochs,
        iterations=runner.max_iters,
        seed=runner.seed,
        versions=versions())


def _several(described: Callable[[dict | None, nn.Module], str], part: dict | None, model: nn.Module) -> str:
    """The teacher in words; several one after the other."""
    networks = getattr(model, 'teachers', {'': model.teacher})
    if '' in networks:
        return described(part, networks[''])
    return ', '.join(f'{name}: {described((part or {}).get(name), network)}' for name, network in networks.items())


def versions() -> dict[str, str]:
    """dict: Versions of the packages that a result depends on."""
    import distpro_mm
    return dict(distpro_mm=distpro_mm.__version__, mmengine=mmengine.__version__, torch=str(torch.__version__))


def command() -> str | None:
    """The command that started this program, with the environment variables that configs read; None in a child process."""
    if multiprocessing.parent_process() is not None:
        return None
    variables = [f'{name}={shlex.quote(os.environ[name])}' for name in ENVIRONMENT if os.environ.get(name)]
    program, *arguments = sys.orig_argv or ['python']
    return ' '.join([*variables, shlex.join([osp.basename(program), *arguments])])
