"""Accuracy, distance to the teacher, size and latency of networks."""
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distpro import Distillation
from distpro.pathways.names import is_logits, split_teacher
from distpro.tracing import find_logits

LATENCY_RUNS = 15
LATENCY_SECONDS = 3.0


@torch.no_grad()
def accuracy(network: nn.Module, batches: Iterable) -> float:
    """Share of images whose largest logit is that of their class, in [0, 1].

    Args:
        network (nn.Module): The network; in eval mode afterwards.
        batches (Iterable): Gives images [B, 3, H, W] and labels [B].
    """
    network.eval()
    device = next(network.parameters()).device
    right = count = 0
    for images, labels in batches:
        right += int((find_logits(network(images.to(device))).argmax(1).cpu() == labels).sum())
        count += len(labels)
    return right / count


@torch.no_grad()
def teacher_distance(kd: Distillation, batches: Iterable) -> dict[str, float]:
    """Distances of the student to the teacher on images.

    Args:
        kd (Distillation): Both networks with their pathways; all are compared.
        batches (Iterable): Gives images [B, 3, H, W] and labels, which are not used.

    Returns:
        dict[str, float]: 'features': mean loss of the pathways between features. With logits also 'kl', the divergence
            KL(teacher || student) in nats, and 'same_class', the share of images with the same largest logit; of several
            teachers their means.
    """
    grid, student = kd.grid, kd.student
    student.eval()
    kd.eval()
    device = next(student.parameters()).device
    sums: dict[str, float] = defaultdict(float)
    count = 0
    for images, _ in batches:
        images = images.to(device)
        with grid.using_weights(torch.ones(len(grid.pathways), device=device)):
            losses = kd.compare((images, ), {}).pathways
        features = [float(loss) for name, loss in losses.items() if not is_logits(name)]
        sums['features'] += len(images) * statistics.fmean(features) if features else 0
        if grid.logit_indices:
            ours = find_logits(student(images))
            names = {teacher for teacher, _ in (split_teacher(tap.name) for tap in (grid.logit_taps or ())[:-1])}
            for name in names:
                theirs = find_logits(kd.teachers.networks[name](images))
                divergence = F.kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction='sum', log_target=True)
                sums['kl'] += float(divergence) / len(names)
                sums['same_class'] += int((ours.argmax(1) == theirs.argmax(1)).sum()) / len(names)
        count += len(images)
    return {name: value / count for name, value in sums.items()}


@torch.no_grad()
def latency(network: nn.Module, images: Tensor) -> float:
    """Median time of a forward of one image in milliseconds, with the threads that torch uses.

    Args:
        network (nn.Module): The network; in eval mode afterwards.
        images (Tensor): Images of the network's size [B, 3, H, W]; the first is used.
    """
    network.eval()
    image = images[:1]
    times: list[float] = []
    started = time.perf_counter()
    network(image)
    while len(times) < LATENCY_RUNS and (not times or time.perf_counter() - started < LATENCY_SECONDS):
        before = time.perf_counter()
        network(image)
        if image.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return 1000 * statistics.median(times)


def size(network: nn.Module) -> dict[str, float]:
    """Number of parameters, and megabytes (10^6 bytes) of parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return dict(parameters=sum(parameter.numel() for parameter in network.parameters()),
                megabytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6)
