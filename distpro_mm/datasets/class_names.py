from typing import Any

from mmengine.logging import print_log
from mmengine.runner.checkpoint import _load_checkpoint

from ..errors import ConfigError

LISTED = 5  # names in a message


def class_names(metainfo: Any) -> tuple[str, ...]:
    """tuple[str]: The names of classes 0, 1, ... in a data set's ``metainfo``; empty if it has none."""
    names = metainfo.get('classes') if isinstance(metainfo, dict) else None
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()


def class_names_of_checkpoint(path: str) -> tuple[str, ...]:
    """tuple[str]: The names of the classes that a network was trained on; empty if its checkpoint has none.

    Args:
        path (str): File or URL of the checkpoint.
    """
    checkpoint = _load_checkpoint(path, map_location='cpu')
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    return class_names((meta or {}).get('dataset_meta'))


def check_class_names(known: tuple[str, ...], of: str, found: tuple[str, ...], key: str, hint: str | None = None) -> None:
    """Check that classes with the same name have the same number.

    mmpretrain numbers the classes of a folder by the sorted names of its subfolders, so a data set that lacks a class
    numbers later classes differently. Names that are known to one side only, such as other spellings, are logged.

    Args:
        known (tuple[str]): Names of classes 0, 1, ... of the training.
        of (str): Source of these names, for messages.
        found (tuple[str]): Names of classes 0, 1, ... that must agree.
        key (str): The config key or file of ``found``.
        hint (str, optional): Advice in the error. Defaults to None: advice for a data set.

    Raises:
        ConfigError: If a class has different numbers.
    """
    differing = [label for label, name in enumerate(found) if name not in known[label:label + 1]]
    if not known or not found or not differing:
        return
    moved = [label for label in differing if found[label] in known or known[label:label + 1] and known[label] in found]
    label = (moved or differing)[0]
    trained = f"'{known[label]}'" if label < len(known) else 'no class'
    message = f"{key}: label {label} is '{found[label]}', and {trained} in {of}"
    if not moved:
        print_log(f'{message}; {len(differing)} of {len(found)} names differ, so classes are compared by number alone',
                  'current', 30)
        return
    missing = [f"'{name}'" for name in known if name not in found]
    listed = ', '.join(missing[:LISTED]) + ' and others' * (len(missing) > LISTED)
    lacks = f'; it lacks {listed}' if missing else ''
    raise ConfigError(f'{message}{lacks}. ' + (hint or 'Give it the same classes in the same order: an empty folder for '
                                               'each class it lacks, or an ann_file with the labels of the training'))
