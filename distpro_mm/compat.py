"""Patches that let mmrazor 1.0.0 and its family run on a current PyTorch and numpy.

Nothing else here may patch a library. Each patch is one function, which does nothing if the library is not broken:

==========================  =================================================================
patch_torchvision           torchvision's compiled operators cannot load beside this torch
patch_mmcv_operators        mmseg and mmdet name compiled operators that mmcv-lite lacks
patch_mmrazor_version       mmrazor refuses an mmcv after 2.1.0, such as that of the fork onedl-mmcv
patch_mmrazor_import        mmrazor's quantization imports names that torch has removed
patch_soft_cross_entropy    ``KDSoftCELoss`` looks for the retired package ``mmcls``
patch_adjust_hue            mmcv's hue shift overflows on numpy 2
patch_retrieval_metrics     mmpretrain's retrieval metrics call a function that numpy 2.4 removed
patch_checkpoint_loading    ``torch.load`` refuses mmengine's own checkpoints; its fork runs code
==========================  =================================================================
"""
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from distpro.networks.torchvision_operators import patch_torchvision

QUANTIZATION_MESSAGE = (
    'mmrazor 1.0.0 cannot quantize on torch {}: its quantization was written for torch 1.13. '
    'Distillation, pruning and architecture search work; for quantization use torch 1.13 without distpro_mm.')

OPERATOR_MESSAGE = (
    "mmcv's compiled operator {} was called, which mmcv-lite does not have: install the full mmcv 2.1.0 in its place, or "
    'take a network and losses that need none')

NEWEST_MMCV = '2.1.0'  # that mmrazor 1.0.0 allows
REQUIREMENTS = ('torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmrazor', 'joblib', 'pkg_resources', 'matplotlib')


def plain_nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression in plain torch: what mmcv's compiled operator of that name gives, slower.

    Args:
        bboxes (Tensor): Boxes [M, 4]: left, top, right, bottom.
        scores (Tensor): Their scores [M].
        iou_threshold (float): A box that overlaps one of a higher score by more than this is dropped, in [0, 1].
        offset (int): Added to every width and height, 0 or 1.

    Returns:
        Tensor: Indices of the boxes that are kept, the highest score first.
    """
    order, kept = scores.argsort(descending=True, stable=True), []
    areas = (bboxes[:, 2:] - bboxes[:, :2] + offset).prod(1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        shared = torch.minimum(bboxes[best, 2:], bboxes[order, 2:]) - torch.maximum(bboxes[best, :2], bboxes[order, :2])
        shared = (shared + offset).clamp(min=0).prod(1)
        order = order[shared / (areas[best] + areas[order] - shared) <= iou_threshold]
    return torch.stack(kept) if kept else order


class _WithoutOperators(types.ModuleType):
    """Stands for ``mmcv._ext``: has every operator, and says of all but a few why they cannot be called."""
    nms = staticmethod(plain_nms)
    get_compiler_version = get_compiling_cuda_version = staticmethod(lambda: 'n/a')

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)

        def refuse(*args, **kwargs):
            raise ImportError(OPERATOR_MESSAGE.format(name))
        return refuse


def patch_mmcv_operators() -> bool:
    """Let mmsegmentation and mmdetection be imported, and most of their networks run, on mmcv-lite.

    Both name mmcv's compiled operators while they are imported, though few networks call one. Their Python side is in
    mmcv-lite too; here it gets a compiled side that raises when it is called. Non-maximum suppression alone, without which
    no detector can be evaluated, is made in plain torch.

    Returns:
        bool: Whether anything was patched.
    """
    name = 'mmcv._ext'
    if not any(importlib.util.find_spec(toolbox) for toolbox in ('mmseg', 'mmdet')) or importlib.util.find_spec(name):
        return False
    sys.modules[name] = _WithoutOperators(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)  # mmengine asks whether there is one
    return True


def patch_mmrazor_version() -> bool:
    """Import mmrazor beside an mmcv that is newer than it allows; what mmrazor uses of mmcv has not changed.

    Returns:
        bool: Whether anything was patched.
    """
    import mmcv
    from mmengine.utils import digit_version
    if 'mmrazor' in sys.modules or digit_version(mmcv.__version__) <= digit_version(NEWEST_MMCV):
        return False
    with mock.patch.object(mmcv, '__version__', NEWEST_MMCV):
        import mmrazor  # noqa: F401
    return True


@contextlib.contextmanager
def _old_torch_for_mmrazor():
    """Let mmrazor take its own branch for a torch without quantization.

    mmrazor asks ``mmrazor.digit_version(torch.__version__)`` once while its modules are imported; the true function
    is put back afterwards, since its tracer asks again at run time.
    """
    import mmrazor
    true_digit_version = mmrazor.digit_version

    def answer(version_str, *args, **kwargs):
        return true_digit_version('1.12.0' if version_str == torch.__version__ else version_str, *args, **kwargs)

    with mock.patch.object(mmrazor, 'digit_version', answer):
        yield


def _refuse_quantization(*args, **kwargs):
    raise ImportError(QUANTIZATION_MESSAGE.format(torch.__version__))


def _quantization_placeholder(name: str):
    """Stand in for a class of torch's quantization: can be named and subclassed, and says why it cannot be used."""
    meta = type('Meta', (type, ), {'__getattr__': lambda cls, attribute: _refuse_quantization()})
    return meta('QuantizationUnavailable', (), {'__init__': _refuse_quantization})


def patch_mmrazor_import() -> bool:
    """Import mmrazor's subpackages on a torch that its quantization does not know.

    Returns:
        bool: Whether anything was patched.
    """
    import torch.ao.quantization.fuser_method_mappings as fuser_method_mappings
    if 'mmrazor.models' in sys.modules or hasattr(fuser_method_mappings, 'reverse2'):
        return False
    import mmrazor.utils

    def placeholder_instead_of(true_placeholder):
        return lambda name: (_quantization_placeholder if name.startswith('torch') else true_placeholder)(name)

    names = ('get_placeholder', 'get_package_placeholder')
    placeholders = {name: placeholder_instead_of(getattr(mmrazor.utils, name)) for name in names}
    with mock.patch.multiple(mmrazor.utils, **placeholders), _old_torch_for_mmrazor():
        for part in ('structures', 'models', 'engine', 'datasets', 'implementations'):
            importlib.import_module(f'mmrazor.{part}')
    # Quantization's own classes import by now, and would fail deep inside torch.
    for quantization in (mmrazor.models.MMArchitectureQuant, mmrazor.models.BaseQuantizer):
        quantization.__init__ = _refuse_quantization
    return True


def patch_soft_cross_entropy() -> bool:
    """Give mmrazor's ``KDSoftCELoss`` the soft cross-entropy of mmpretrain, the successor of mmcls.

    Returns:
        bool: Whether anything was patched.
    """
    if importlib.util.find_spec('mmcls') is not None:
        return False
    import mmrazor.models.losses.kd_soft_ce_loss as kd_soft_ce_loss
    from mmpretrain.models.losses.cross_entropy_loss import soft_cross_entropy
    kd_soft_ce_loss.soft_cross_entropy = soft_cross_entropy
    return True


class _CyclicHue(float):
    """A hue factor whose multiples are integers modulo 256, which fit into uint8."""
    def __mul__(self, other):
        return int(float(self) * other) % 256


def patch_adjust_hue() -> bool:
    """Let mmcv shift a hue backwards on numpy 2.

    ``mmcv.adjust_hue``, which mmpretrain's ``ColorJitter`` calls, makes a uint8 of
    ``hue_factor * 255`` and relies on numpy to take a negative number modulo 256. numpy 2 raises OverflowError instead.

    Returns:
        bool: Whether anything was patched.
    """
    import mmcv
    adjust_hue = mmcv.adjust_hue
    try:
        adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.5)
        return False
    except OverflowError:
        pass

    @functools.wraps(adjust_hue)
    def cyclic_adjust_hue(img, hue_factor, backend=None):
        return adjust_hue(img, _CyclicHue(hue_factor), backend)

    for module in (mmcv, mmcv.image, mmcv.image.photometric):
        module.adjust_hue = cyclic_adjust_hue
    return True


class _NumpyWithIn1d(types.ModuleType):
    """numpy, and the function ``in1d`` that it had up to 2.3."""

    @staticmethod
    def in1d(ar1, ar2):
        return np.isin(np.ravel(ar1), ar2)

    def __getattr__(self, name: str):
        return getattr(np, name)


def patch_retrieval_metrics() -> bool:
    """Give mmpretrain's ``RetrievalRecall`` and ``RetrievalAveragePrecision`` the ``np.in1d`` that numpy 2.4 removed.

    Only the module of these metrics sees it; numpy itself is unchanged.

    Returns:
        bool: Whether anything was patched.
    """
    import mmpretrain.evaluation.metrics.retrieval as retrieval
    if hasattr(retrieval.np, 'in1d'):
        return False
    retrieval.np = _NumpyWithIn1d('numpy')
    return True


def _history_buffer_method(owner, name: str):
    """Stands for ``getattr`` in checkpoints, which mmengine's pickles ask for by name, and serves nothing else."""
    from mmengine.logging import HistoryBuffer
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'the checkpoint asks for {name} of {owner}: it was not written by mmengine')
    return getattr(owner, name)


def patch_checkpoint_loading() -> bool:
    """Name the few harmless classes in mmengine's checkpoints as safe for ``torch.load(weights_only=True)``.

    Checkpoints have mmengine's ``HistoryBuffer`` and small numpy arrays. With them on torch's list ``--resume`` and
    ``teacher_ckpt`` work, and no file can run code. The loader of mmengine's fork would run it, and clears the list.

    Returns:
        bool: Whether anything was patched.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.runner import checkpoint
    if hasattr(checkpoint, '_safe_torch_load'):
        checkpoint._safe_torch_load = torch.load
    if HistoryBuffer in torch.serialization.get_safe_globals():
        return False
    multiarray = (np._core if int(np.__version__.split('.')[0]) >= 2 else np.core).multiarray
    torch.serialization.add_safe_globals([
        HistoryBuffer, (_history_buffer_method, 'builtins.getattr'), np.dtype, np.ndarray, multiarray._reconstruct,
        multiarray.scalar, *{type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)}])
    return True


def check_requirements() -> None:
    """Check that the packages of the extra ``mm`` are installed.

    Raises:
        ImportError: If one is missing.
    """
    missing = [name for name in REQUIREMENTS if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"distpro_mm needs {', '.join(missing)}: pip install 'distpro_mm[mm]', or '.[mm]' in a checkout. "
                          'The package distpro alone needs only torch and numpy.')


def apply() -> None:
    """Apply every patch that is needed, in the order that the imports need.

    Raises:
        ImportError: If a package of the extra ``mm`` is missing.
    """
    check_requirements()
    with warnings.catch_warnings():
        # The family's import warnings are about its own old calls: a user can do nothing about them.
        warnings.simplefilter('ignore')
        patch_torchvision()
        patch_mmcv_operators()
        patch_mmrazor_version()
        patch_mmrazor_import()
        patch_soft_cross_entropy()
        import mmpretrain.datasets  # noqa: F401
        import mmpretrain.engine  # noqa: F401
        import mmpretrain.models  # noqa: F401
        patch_adjust_hue()
        patch_retrieval_metrics()
    patch_checkpoint_loading()
