"""Find the activation module that produced a feature."""
from typing import Any

import torch
from torch import Tensor, nn

from .trace import Call, Trace


def activation_of(feature: Any, traced: Trace) -> Call | None:
    """The call of the activation module that produced ``feature``; None if there is none."""
    if not isinstance(feature, Tensor):
        return None
    for call in traced.calls:
        if call.output is feature and not list(call.module.children()) and _is_elementwise(call):
            return call
    return None


def _is_elementwise(call: Call) -> bool:
    """Whether a module is an activation: elementwise, and not the identity.

    Determined by a test: an elementwise function commutes with any permutation of the elements.
    """
    if isinstance(call.module, nn.PReLU):
        return True
    if any(True for _ in call.module.parameters()) or any(True for _ in call.module.buffers()):
        return False  # an untrained batch norm is elementwise too
    value = call.inputs[0] if call.inputs else None
    if value is call.output and call.input_version != call.output_version:
        return True  # in place: the input is overwritten; the caller compares the versions
    if not isinstance(value, Tensor) or value.shape != call.output.shape or torch.equal(value, call.output):
        return False
    order = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(0)).to(value.device)
    permuted = value.flatten()[order].view_as(value).clone()
    was_training = call.module.training
    call.module.eval()
    try:
        with torch.no_grad():
            image = call.module(permuted)
    finally:
        call.module.train(was_training)
    return torch.allclose(image.flatten(), call.output.flatten()[order], atol=1e-6)
