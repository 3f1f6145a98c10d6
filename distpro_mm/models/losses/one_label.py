"""Refuse losses of logits that assume one label per image for networks with several labels per image."""
import copy
from collections.abc import Callable, Iterable

import torch
from mmpretrain.models.heads import MultiLabelClsHead
from torch import Tensor, nn

from ...errors import ConfigError
from .annotations import LABELS, arguments_of


def is_multi_label(model: nn.Module) -> bool:
    """Whether a network predicts each label independently.

    mmpretrain's configs with Mixup have a head of this class with a softmax, for labels that are mixed.
    """
    return any(isinstance(module, MultiLabelClsHead) and not _has_softmax(module) for module in model.modules())


def _has_softmax(head: MultiLabelClsHead) -> bool:
    loss, classes = getattr(head, 'loss_module', None), getattr(head, 'num_classes', 0) or 10
    targets = torch.eye(classes)[torch.arange(4) % classes]
    return loss is not None and _ignores_constants(loss, lambda loss, logits: loss(logits, targets), classes)


def assumes_one_label(loss: nn.Module, classes: int) -> bool:
    """Whether a loss of logits is computed from a softmax over the classes.

    Determined on random logits: such a loss is invariant if a constant is added to all logits of an image. It cannot
    train a multi-label student, because it does not depend on this constant.

    Args:
        loss (nn.Module): The loss of the student's and the teacher's logits.
        classes (int): K, the number of logits of an image.

    Returns:
        bool: Whether the loss is invariant; False if it cannot be computed on random logits.
    """
    teacher = torch.randn(4, classes, generator=torch.Generator().manual_seed(1))
    labels = dict.fromkeys(set(arguments_of(loss)) & {LABELS}, torch.arange(4) % classes)
    return _ignores_constants(loss, lambda loss, student: loss(student, teacher, **labels), classes)


def _ignores_constants(loss: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], classes: int) -> bool:
    """Whether a loss of random logits [4, K] does not depend on a constant that is added to all logits of an image."""
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    changes = torch.tensor([[1.0], [3.0], [-2.0], [5.0]])  # one constant per image
    loss = copy.deepcopy(loss).cpu().float()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            plain, shifted = (call(loss, logits + change) for change in (0, changes))
    except Exception:
        return False
    return bool(torch.allclose(plain, shifted, rtol=1e-3, atol=1e-5))


def refuse_one_label(losses: dict, classes: int, key: str, networks: Iterable[nn.Module]) -> None:
    """Refuse losses that assume one label per image if a network has several labels per image.

    Args:
        losses (dict[str, nn.Module]): Losses of logits, by name.
        classes (int): K, the number of logits of an image.
        key (str): Config key of the losses.
        networks (Iterable[nn.Module]): Student and teacher.

    Raises:
        ConfigError: If there is such a loss. The message has the names of the losses.
    """
    if any(is_multi_label(network) for network in networks):
        wrong = [f'{name} ({type(loss).__name__})' for name, loss in losses.items() if assumes_one_label(loss, classes)]
        if wrong:
            raise ConfigError(f"{key}: {', '.join(wrong)}: {ONE_LABEL}")


def refuse_recorded_one_label(model: nn.Module) -> None:
    """Refuse recorded losses of a head's outputs that assume one label per image if there are several.

    Args:
        model (nn.Module): A ``SingleTeacherDistill`` with a ``ConfigurableDistiller``.

    Raises:
        ConfigError: If there is such a loss.
    """
    distiller, head = model.distiller, getattr(model.student, 'head', None)
    sources = {name: recorder.source for name, recorder in distiller.student_recorders.recorders.items()}
    losses = {}
    for name, mapping in distiller.loss_forward_mappings.items():
        recorded = [sources.get(entry.get('recorder'), '') for entry in mapping.values() if entry.get('from_student')]
        if any(source.split('.')[0] == 'head' for source in recorded):
            losses[name] = distiller.distill_losses[name]
    classes = getattr(head, 'num_classes', 0) or 10
    refuse_one_label(losses, classes, 'model.distiller.distill_losses',
                     (model.student, *getattr(model, 'teachers', {'': model.teacher}).values()))


ONE_LABEL = ("a softmax over the classes assumes one label per image, but these images have several (MultiLabelClsHead); "
             "use a loss per logit, such as dict(type='L2Loss', normalize=False), or remove the losses of logits")
