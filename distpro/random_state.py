"""Random states and buffers that are as before afterwards."""
import contextlib
from typing import Iterator, List

import torch
from torch import nn


def gpus(*modules: nn.Module) -> List[torch.device]:
    """list[torch.device]: The GPUs that parameters or buffers of the modules are on."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return list({tensor.device for tensor in tensors if tensor.is_cuda})


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Let forwards run in training mode without any lasting effect.

    Inside, the modules' buffers (running statistics among them) are copies; afterwards the true ones, which nothing has
    written to, are back, and so are the random states of the CPU and of every GPU that the modules are on.

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
def fixed_random_states(device: torch.device) -> Iterator[None]:
    """Leave the random states of the CPU and of a device as they are."""
    states = random_states(device)
    try:
        yield
    finally:
        set_random_states(states, device)


def random_states(device: torch.device) -> tuple:
    """tuple: The random states of the CPU and of a GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == 'cuda' else None


def set_random_states(states: tuple, device: torch.device) -> None:
    """Set what :func:`random_states` gave."""
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
