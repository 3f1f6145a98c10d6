"""The loss of guessing: of a classifier that knows the class frequencies but ignores the images."""
import collections
import inspect
import math

import torch
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from torch import Tensor, nn


class GuessingBaseline:
    """Compares a classifier's loss in training with the loss of guessing on the same targets.

    Guessing predicts the class frequencies seen so far, or the same probability for every class, whichever has the lower
    loss. Its loss is computed by the head's own loss module, so loss weight, class weights, label smoothing and mixed
    labels affect both losses equally.

    The losses stay on the device until :meth:`means` is called, so there is no synchronisation per step.

    Args:
        loss (nn.Module): The loss module to watch, see :func:`single_label_loss`.
        window (int): Number of the last batches that :meth:`means` averages, >= 1.
    """

    def __init__(self, loss: nn.Module, window: int) -> None:
        self._losses: collections.deque = collections.deque(maxlen=window)  # [3]: of the classifier and both guesses
        self._counts: Tensor | None = None
        self._handle = loss.register_forward_hook(self._compare, with_kwargs=True)

    def _compare(self, loss: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        bound = inspect.signature(loss.forward).bind(*args, **kwargs)
        (name, scores), (_, targets) = list(bound.arguments.items())[:2]
        if scores.ndim != 2:  # logits are [B, C]; targets are class indices [B] or shares of the classes [B, C]
            return
        with torch.no_grad():
            if self._counts is None:
                self._counts = scores.new_ones(scores.shape[1], dtype=torch.float32)
            losses = [output.detach().float()]
            for counts in (self._counts, torch.ones_like(self._counts)):
                bound.arguments[name] = (counts / counts.sum()).log().expand(scores.shape)
                losses.append(loss.forward(*bound.args, **bound.kwargs).float())  # calling loss would recurse
            self._losses.append(torch.stack(losses))
            if targets.shape != scores.shape:
                targets = targets.reshape(-1, 1) == torch.arange(scores.shape[1], device=scores.device)
            self._counts += targets.sum(0)

    def __len__(self) -> int:
        """Number of batches that :meth:`means` averages."""
        return len(self._losses)

    def means(self) -> Tensor:
        """Tensor: Mean loss of the classifier and of guessing [2] over the last batches. Needs at least one batch."""
        own, *guesses = torch.stack(list(self._losses)).mean(0)
        return torch.stack([own, min(guesses)])

    def latest(self) -> Tensor:
        """Tensor: Loss of the classifier and of the same probability for every class [2] on the last batch."""
        return self._losses[-1][[0, 2]]

    def close(self) -> None:
        """Stop watching."""
        self._handle.remove()


def single_label_loss(classifier: nn.Module) -> nn.Module | None:
    """The softmax cross-entropy loss of a classifier.

    Args:
        classifier (nn.Module): A classifier of mmpretrain, or any other model.

    Returns:
        nn.Module: Its loss module; None if its loss is not a plain or label-smoothed cross-entropy of one label per image
        (several labels, a margin, another toolbox), for which the loss of guessing is not defined.
    """
    head = getattr(classifier, 'head', None)
    loss = getattr(head, 'loss_module', None) or getattr(classifier, 'loss_module', None)
    entropy = loss.ce if isinstance(loss, LabelSmoothLoss) else loss
    softmax = isinstance(entropy, nn.CrossEntropyLoss) or isinstance(entropy, CrossEntropyLoss) and not entropy.use_sigmoid
    return loss if softmax and loss.reduction == 'mean' and not isinstance(head, ArcFaceClsHead) else None


def trained_loss(model: nn.Module) -> nn.Module | None:
    """The single-label loss that a classifier, or the student of a distillation, is trained with; None if there is none."""
    trained = getattr(model, 'calculate_student_loss', True) and getattr(model, 'student_trainable', True)
    return single_label_loss(getattr(model, 'architecture', model)) if trained else None


def guessing_loss(classifier: nn.Module) -> float:
    """Loss of the same probability for all classes, by the classifier's loss module; infinity where it is not defined."""
    classes = getattr(getattr(classifier, 'head', None), 'num_classes', None)
    loss = single_label_loss(classifier)
    if not classes or loss is None:
        return math.inf
    labels = torch.arange(classes, device=next(classifier.parameters()).device)
    return float(loss(torch.zeros(classes, classes, device=labels.device), labels))
