"""Makes torchvision importable beside a torch that its compiled operators do not fit."""
import importlib.util
import pathlib
import sys

import torch

SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
_library = None  # torch forgets the schemas when this object is collected


def patch_torchvision() -> bool:
    """Give torchvision the operator schemas that its import asks for.

    A torchvision whose compiled library does not fit the installed torch (PyPI's build beside a CPU build of torch)
    fails to import with "operator torchvision::nms does not exist". Image transforms and networks need none of those
    operators, so their schemas are declared; calling one of them still raises torch's own error.

    Returns:
        bool: Whether anything was patched.
    """
    global _library
    if sys.modules.get('torchvision', ()) is None:  # its import is blocked
        return False
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None or 'torchvision' in sys.modules:
        return False
    compiled = sorted(pathlib.Path(spec.origin).parent.glob('_C*.so'))
    try:
        for path in compiled:
            torch.ops.load_library(str(path))
        if compiled:
            return False
    except OSError:
        pass
    _library = torch.library.Library('torchvision', 'FRAGMENT')
    patched = False
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(schema)
            patched = True
    return patched
