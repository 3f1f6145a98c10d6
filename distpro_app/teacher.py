"""Adapts a teacher to the classes of a folder: a linear probe, or training of all weights."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distpro.errors import ArgumentError
from distpro.guessing import chance
from distpro.tracing import find_logits

from .evaluation import accuracy
from .networks import Report, Teacher, classifier_of
from .settings import FolderSettings
from .training import Training, build_optimizer

DECAY = 0.01  # of the probe's weights, for features of variance 1
STEPS = 200  # of the probe at most


def train_probe(network: nn.Module, batches: torch.utils.data.DataLoader) -> None:
    """Train a network's classifier on its frozen features: multinomial logistic regression with a quadratic penalty.

    Args:
        network (nn.Module): The network, whose logits come from a linear layer; in eval mode afterwards.
        batches (DataLoader): Gives training images [B, 3, H, W] and labels [B], without augmentation.

    Raises:
        ArgumentError: If no linear layer computes the logits.
    """
    network.eval()
    device = next(network.parameters()).device
    features, labels = [], []
    layer = classifier_of(network, next(iter(batches))[0][:2].to(device))
    if layer is None:
        raise ArgumentError('teacher: its logits are not computed by one linear layer, so a new classifier needs the '
                            'training of all weights: pass --train-teacher EPOCHS')
    hook = layer.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            for images, own in batches:
                network(images.to(device))
                labels.append(own.to(device))
    finally:
        hook.remove()
    weight, bias = fit_probe(torch.cat(features), torch.cat(labels), layer.out_features)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)


def fit_probe(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: minimises the mean cross-entropy plus ``DECAY / 2`` times the squared weights.

    Args:
        features (Tensor): Features [N, F]; the penalty is on weights for features of mean 0 and variance 1.
        labels (Tensor): Labels [N].
        classes (int): Number of classes.

    Returns:
        tuple[Tensor, Tensor]: Weight [classes, F] and bias [classes] for the features as given.
    """
    mean, std = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
    scaled = (features - mean) / std
    weight = torch.zeros(classes, features.shape[1], device=features.device, dtype=features.dtype, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(scaled, weight, bias), labels) + DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    unscaled = weight.detach() / std
    return unscaled, bias.detach() - unscaled @ mean


def adapt_teacher(teacher: Teacher, settings: FolderSettings, plain: torch.utils.data.DataLoader,
                  augmented: torch.utils.data.DataLoader, held_out: torch.utils.data.DataLoader, path: str, identity: str,
                  resume: bool, report: Report) -> None:
    """Train a new classifier, and all weights for ``train_teacher`` epochs.

    Args:
        teacher (Teacher): The teacher; changed.
        settings (FolderSettings): The settings.
        plain (DataLoader): Training images without augmentation.
        augmented (DataLoader): Training images with augmentation.
        held_out (DataLoader): Held-out images.
        path (str): Checkpoint of the teacher's training.
        identity (str): What the checkpoint belongs to.
        resume (bool): Continue from the checkpoint.
        report (Callable): Is given lines about it.
    """
    network = teacher.network
    is_random = teacher.new_classifier and settings.teacher_weights == 'random' and not settings.teacher_ckpt
    if teacher.new_classifier and not is_random:
        if settings.train_teacher == 0 or classifier_of(network, next(iter(plain))[0][:2].to(
                next(network.parameters()).device)) is not None:
            train_probe(network, plain)
            report(f"the teacher's classifier is new: trained on its frozen features (linear probe), "
                   f'{percent(accuracy(network, held_out))} of the held-out images are right')
    if not settings.train_teacher:
        return
    report(f'training all weights of the teacher for {settings.train_teacher} epochs')
    optimizer = build_optimizer(settings, network, random_weights=is_random)
    training = Training(
        dict(teacher=network), optimizer,
        lambda images, labels, progress: F.cross_entropy(find_logits(network(images)), labels), augmented,
        settings.train_teacher, path, settings.seed + 1, identity, lambda line: report(f'teacher, {line}'))
    training.run(resume, lambda: f'{percent(accuracy(network, held_out))} of the held-out images right')


def check_teacher(network: nn.Module, held_out: torch.utils.data.DataLoader, labels: list[int], report: Report) -> float:
    """The teacher's accuracy on held-out images, with a warning if it may be guessing.

    Returns:
        float: The accuracy, in [0, 1].
    """
    found = accuracy(network, held_out)
    share, limit = chance(labels)
    if found <= limit:
        report(f'warning: the teacher is right on {percent(found)} of the held-out images, and guessing the most frequent '
               f'class on {percent(share)}. Its logits are misleading: train it (--train-teacher EPOCHS), check its '
               'weights, its image size and the order of its classes, or use its features alone (--teacher-head none)')
    else:
        report(f'the teacher is right on {percent(found)} of the held-out images')
    return found


def percent(share: float) -> str:
    """str: A share in percent."""
    return f'{100 * share:.1f} %'
