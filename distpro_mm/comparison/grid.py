"""The grid of a method: which settings are tried together, and the next value beyond an edge of the grid."""
import dataclasses
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from distpro.errors import is_number

from ..errors import ConfigError

ENTRY_KEYS = {'values', 'factors', 'limits'}
MISSING = object()


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """Settings of which one is chosen, while all other settings stay as they are.

    Args:
        settings (list[dict]): The settings by dotted key, in the order of their values.
        limits (tuple[float, float], optional): Least and largest value. Defaults to None: no limits.
        default (dict): The config's own values of these keys; keys that the config lacks are left out.
    """
    settings: list[dict[str, Any]]
    limits: tuple[float, float] | None = None
    default: dict[str, Any] = dataclasses.field(default_factory=dict)


def check_grid(grid: Any, name: str) -> dict[str, Any] | list[dict[str, Any]]:
    """Check the form of a grid, and copy it.

    Args:
        grid (dict or list): By dotted key, a list of values, or a dict of ``values`` or ``factors`` and optionally
            ``limits``; or a list of dicts of settings.
        name (str): The grid's name in errors.

    Returns:
        dict or list: The grid, of plain dicts and lists; each entry of a dict is a dict.

    Raises:
        ConfigError: If it has a different form.
    """
    if isinstance(grid, (list, tuple)):
        return [dict(settings) for settings in grid]
    checked = {}
    for option, entry in grid.items():
        entry = dict(entry) if isinstance(entry, dict) else dict(values=entry)
        if set(entry) - ENTRY_KEYS or ('values' in entry) == ('factors' in entry):
            raise ConfigError(f"{name}: '{option}' has {sorted(entry)}; give a list of values, or a dict of 'values' or "
                              "'factors' and optionally 'limits'")
        tried = entry.get('values', entry.get('factors'))
        if not isinstance(tried, (list, tuple)) or not tried:
            raise ConfigError(f"{name}: '{option}' has {tried!r}; give a list with at least one value")
        if 'factors' in entry and not all(is_number(factor) for factor in tried):
            raise ConfigError(f"{name}: '{option}' has factors={list(tried)}, which must be numbers")
        limits = entry.get('limits')
        if limits is not None:
            if len(limits) != 2 or not all(is_number(limit) for limit in limits) or limits[0] >= limits[1]:
                raise ConfigError(f"{name}: '{option}' has limits={limits}, which must be two increasing numbers")
            entry['limits'] = tuple(limits)
        checked[option] = entry
    return checked


def axes_of(grid: dict[str, Any] | list[dict[str, Any]], cfg: Config, name: str) -> list[Axis]:
    """The axes of a grid, in the order in which they are tuned.

    Args:
        grid (dict or list): A grid, see :func:`check_grid`.
        cfg (Config): The method's config, with its options.
        name (str): The grid's name in errors.

    Returns:
        list[Axis]: One for each key of a dict; one for a list of settings; none for an empty grid.

    Raises:
        ConfigError: If a key has factors, and the config has no number there.
    """
    if isinstance(grid, list):
        return [Axis(grid, default=_default(cfg, {key for settings in grid for key in settings}))] if grid else []
    axes = []
    for option, entry in grid.items():
        default = _default(cfg, {option})
        values = entry.get('values')
        if values is None:
            if not is_number(default.get(option)):
                raise ConfigError(f"{name}: '{option}' has factors, and the config has {default.get(option)!r} there: give "
                                  'values, or a key with a number')
            values = [default[option] * factor for factor in entry['factors']]
        values = sorted(values) if all(is_number(value) for value in values) else list(values)
        axes.append(Axis([{option: value} for value in values], entry.get('limits'), default))
    return axes


def beyond(settings: Sequence[dict[str, Any]], upper: bool, limits: tuple[float, float] | None = None) -> dict | None:
    """The settings one step beyond an edge of an axis: numbers continue with the ratio of the two at the edge.

    Args:
        settings (Sequence[dict]): The settings of the axis.
        upper (bool): Beyond the last of them; otherwise before the first.
        limits (tuple[float, float], optional): Least and largest value; numbers are clipped. Defaults to None.

    Returns:
        dict, optional: The settings; None if there are none: the axis has a single value, the limit is reached, or a
        value at the edge is zero, negative or no number and differs from its neighbour.
    """
    if len(settings) < 2:
        return None
    inner, edge = settings[-2:] if upper else reversed(settings[:2])
    found = _continued(inner, edge, limits)
    return None if found is MISSING or found == edge else found


def _continued(inner: Any, edge: Any, limits: tuple[float, float] | None) -> Any:
    """The next of two values, in dicts and lists too; MISSING if there is none."""
    if isinstance(inner, dict) and isinstance(edge, dict) and inner.keys() == edge.keys():
        found = {key: _continued(inner[key], edge[key], limits) for key in edge}
        return MISSING if MISSING in found.values() else found
    if isinstance(inner, (list, tuple)) and isinstance(edge, (list, tuple)) and len(inner) == len(edge):
        found = [_continued(one, other, limits) for one, other in zip(inner, edge)]
        return MISSING if MISSING in found else found
    if inner == edge:
        return edge
    if not is_number(inner) or not is_number(edge) or min(inner, edge) <= 0:
        return MISSING
    value = float(f'{edge * edge / inner:.6g}')
    return value if limits is None else min(max(value, limits[0]), limits[1])


def with_lists(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """Options in which an entry of a list of plain values has become the list, because mmengine merges no such entries.

    Args:
        cfg (Config): The config that they are for.
        options (dict): Settings by dotted key, such as ``loss.transformations.0``.

    Returns:
        dict: The same settings, ``loss.transformations`` in this case.
    """
    merged: dict[str, Any] = {}
    for option, value in options.items():
        name, _, place = option.rpartition('.')
        entries = merged.get(name, _value(cfg, name))
        plain = isinstance(entries, (list, tuple)) and not isinstance(_value(cfg, option), dict)
        if plain and place.isdigit() and int(place) < len(entries):
            merged[name] = [*entries[:int(place)], value, *entries[int(place) + 1:]]
        else:
            merged[option] = value
    return merged


def _default(cfg: Config, options: set[str]) -> dict[str, Any]:
    """The config's values by dotted key, of those that it has."""
    found = {option: _value(cfg, option) for option in options}
    return {option: value for option, value in found.items() if value is not MISSING}


def _value(cfg: Any, option: str) -> Any:
    for part in option.split('.'):
        try:
            cfg = cfg[int(part)] if isinstance(cfg, (list, tuple)) else cfg[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return MISSING
    return cfg
