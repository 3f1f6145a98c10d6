"""Save and restore random states and buffers."""
import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


def gpus(*modules: nn.Module) -> list[torch.device]:
    """list[torch.device]: The GPUs of the modules' parameters and buffers."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return list({tensor.device for tensor in tensors if tensor.is_cuda})


@contextlib.contextmanager
def without_side_effects(*modules: nn.Module) -> Iterator[None]:
    """Run forwards in training mode without side effects.

    Inside the context, the modules' buffers (e.g. running statistics) are copies. On exit, the original buffers and the
    random states of the CPU and of the modules' GPUs are restored.

    Args:
        *modules (nn.Module): The modules whose buffers are protected.
    """
    owners = [(module, name, buffer) for root in modules for module in root.modules()
              for name, buffer in module._buffers.items() if buffer is not None]
    with torch.random.fork_rng(devices=gpus(*modules)):
        for module, name, buffer in owners:
            module._buffers[name] = buffer.clone()
        try:
            yield
        finally:
            for module, name, buffer in owners:
                module._buffers[name] = buffer


@contextlib.contextmanager
def preserve_random_states(device: torch.device = torch.device('cpu')) -> Iterator[None]:
    """Restore the random states of Python, numpy and torch, on the CPU and on a device, on exit."""
    states, others = random_states(device), (random.getstate(), np.random.get_state())
    try:
        yield
    finally:
        set_random_states(states, device)
        random.setstate(others[0])
        np.random.set_state(others[1])


def random_states(device: torch.device) -> tuple:
    """tuple: The random states of torch on the CPU and on a GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == 'cuda' else None


def set_random_states(states: tuple, device: torch.device) -> None:
    """Restore the states of :func:`random_states`."""
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch.

    Args:
        seed (int): In [0, 2**63).
    """
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
