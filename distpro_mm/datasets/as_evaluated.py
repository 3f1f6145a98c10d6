"""The config of a training set whose images are prepared as for evaluation."""
import copy

from .in_memory import build_unloaded


def pipeline_of(dataset: dict) -> list:
    """The pipeline that loads an image; that of the first data set if there are several.

    Args:
        dataset (dict): Config of a data set, wrapped at any depth.

    Returns:
        list: The config of the pipeline; empty if there is none.
    """
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset.get('pipeline', [])


def as_evaluated(dataset: dict, pipeline: list) -> dict:
    """A training set, wrapped at any depth, whose images are prepared by the pipeline of the evaluation.

    Args:
        dataset (dict): Config of the training set; changed.
        pipeline (list): Config of the pipeline.

    Returns:
        dict: The config, without a wrapper that mixes several images into one.
    """
    if 'dataset' in dataset and 'pipeline' in dataset:  # a wrapper that mixes several images into one
        return as_evaluated(dataset['dataset'], pipeline)
    dataset.pop('augments', None)
    if 'dataset' in dataset:
        dataset['dataset'] = as_evaluated(dataset['dataset'], pipeline)
    elif 'datasets' in dataset:
        dataset['datasets'] = [as_evaluated(part, pipeline) for part in dataset['datasets']]
    else:
        dataset['pipeline'] = copy.deepcopy(pipeline)
    return dataset


def evaluated_training_set(cfg: dict):
    """The training set of a config, with the images prepared as for evaluation and not loaded into memory.

    Args:
        cfg (dict): The config, with ``train_dataloader``. Without ``val_dataloader``, images are prepared as in training.

    Returns:
        BaseDataset or wrapper: The data set.
    """
    train, val = ((cfg.get(f'{name}_dataloader') or {}).get('dataset') for name in ('train', 'val'))
    if isinstance(train, dict) and isinstance(val, dict):
        train = as_evaluated(copy.deepcopy(train), pipeline_of(val))
    return build_unloaded(train)
