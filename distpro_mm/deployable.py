"""The student of a config as a module that can be exported to other formats, and what its users must know."""
import dataclasses
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint
from mmpretrain.models import BaseClassifier
from mmpretrain.registry import DATASETS
from torch import nn

from distpro.errors import first_line
from distpro.tracing import find_logits, probe_input

from .config_types import name_of
from .datasets.class_names import class_names
from .engine.launch import student_config
from .errors import ConfigError
from .export import built_student, testing_steps
from .models import ModuleClassifier


@dataclasses.dataclass
class DeployableStudent:
    """A classifier that returns logits [B, K] of images, and their preprocessing.

    Args:
        network (nn.Module): Called with normalised images [B, C, H, W].
        name (str): Its name.
        classes (list[str]): Names of the classes; empty if the checkpoint and the data set have none.
        outputs (int): K.
        shape (tuple[int, int, int]): [C, H, W].
        mean (tuple[float]): Mean of each channel, of images in [0, 1].
        std (tuple[float]): Standard deviation of each channel of these.
        preparation (dict): How an image becomes one of this shape: ``color`` ('rgb', 'bgr' or 'grey'),
            ``resize_shorter_side`` and ``center_crop`` in pixels or None, ``interpolation`` or None, and the
            ``test_pipeline`` of the config.
    """
    network: nn.Module
    name: str
    classes: list[str]
    outputs: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: dict[str, Any]


def deployable_student(cfg: Config, checkpoint: str) -> DeployableStudent:
    """Build the student of a config with the weights of a checkpoint.

    Args:
        cfg (Config): The config of the training.
        checkpoint (str): Its checkpoint.

    Returns:
        DeployableStudent: The student in eval mode.

    Raises:
        ConfigError: If the student is no classifier, the checkpoint does not fit, or the size of the images is unknown.
    """
    shape = (cfg.get('model') or {}).get('input_shape')
    model, model_cfg, toolbox = built_student(cfg, checkpoint)
    if not isinstance(model, (BaseClassifier, ModuleClassifier)):
        raise ConfigError(f'model.architecture: {type(model).__name__} is not a classifier of mmpretrain or a '
                          'NamedClassifier, and other formats than mm are for these: pass --formats mm')
    cfg = student_config(cfg)
    steps = testing_steps(cfg, toolbox)
    channels, height, width = _shape(cfg, steps, shape, model)
    preprocessor = model_cfg.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    mean, std = (_of_unit(preprocessor.get(key), start, channels) for key, start in (('mean', 0.), ('std', 1.)))
    swaps = channels == 3 and bool(preprocessor.get('to_rgb', False))
    by_name = {name_of(step['type']): step for step in steps if 'type' in step}
    resized = by_name.get('ResizeEdge', {})
    if resized.get('edge', 'short') != 'short':
        resized = {}
    # Files are read as blue, green and red; mmpretrain's small data sets hold red, green and blue.
    loaded = 'bgr' if 'LoadImageFromFile' in by_name else 'rgb'
    color = 'grey' if channels == 1 else {True: 'bgr' if loaded == 'rgb' else 'rgb', False: loaded}[swaps]
    method = f"{resized.get('interpolation', 'bilinear')}, by {resized.get('backend', 'cv2')}" if resized else None
    preparation = dict(color=color, resize_shorter_side=resized.get('scale'), interpolation=method,
                       center_crop=[height, width] if 'CenterCrop' in by_name else None, test_pipeline=steps)
    meta = class_names((_load_checkpoint(checkpoint, map_location='cpu').get('meta') or {}).get('dataset_meta'))
    model.eval()
    with torch.no_grad():
        outputs = find_logits(model(torch.zeros(2, channels, height, width))).shape[1]
    name = model_cfg.get('name') or name_of((model_cfg.get('backbone') or model_cfg).get('type'))
    return DeployableStudent(model, str(name), list(meta), outputs, (channels, height, width), mean, std, preparation)


def _shape(cfg: Config, steps: list[dict], given: Any, model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the images: of the test pipeline, the config, or the first test image."""
    channels = probe_input(model, given).size(1)
    for step in reversed(steps):
        kind, size = name_of(step.get('type')), step.get('crop_size', step.get('scale'))
        if kind in ('CenterCrop', 'Resize') and size is not None:
            width, height = (size, size) if isinstance(size, int) else size
            return channels, height, width
    if given:
        return channels, int(given[1]), int(given[2])
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset')
    try:
        image = DATASETS.build(dataset)[0]['inputs']
    except Exception as error:  # of the data set's class, such as missing files
        raise ConfigError('model.input_shape=None: the test pipeline does not resize images, and the first test image '
                          f'cannot be read ({first_line(error)}): pass model.input_shape=[C,H,W]') from error
    return channels, *map(int, image.shape[-2:])


def _of_unit(values: Any, start: float, channels: int) -> tuple[float, ...]:
    """Numbers for each channel of images in [0, 1], from those of a preprocessor for images in [0, 255]."""
    given = [start] if values is None else list(values)
    return tuple(float(number) / 255 for number in (given * channels if len(given) == 1 else given))
