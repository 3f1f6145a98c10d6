"""Find the calls of a layer by its name."""
import difflib

from ..errors import ArgumentError
from .trace import Call, Trace


def calls_of(name: str, traced: Trace, key: str) -> list[Call]:
    """The calls of a layer.

    Args:
        name (str): The layer, as in ``named_modules()``.
        traced (Trace): A forward of the model.
        key (str): The config key, for errors.

    Returns:
        list[Call]: One or more calls, in their order.

    Raises:
        ArgumentError: If there is no such layer, or it is not called.
    """
    if not isinstance(name, str) or name not in traced.modules or not name:
        nearest = difflib.get_close_matches(str(name), list(traced.modules), n=3, cutoff=0.3)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ''
        raise ArgumentError(f"{key}: the model has no layer '{name}'{hint}")
    calls = traced.of(name)
    if not calls:
        inner = ', '.join(part for part in traced.modules if part.startswith(name + '.'))[:200]
        hint = f'; give a layer inside it: {inner}' if inner else ''
        raise ArgumentError(f"{key}: layer '{name}' is not called in a forward of the model{hint}")
    return calls
