"""What came of a call that another process has executed."""
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a call, or why there is none.

    Args:
        result (Any): What the function returned. Defaults to None.
        error (BaseException, optional): What it raised, or how its process ended. Defaults to None.
        killed (bool): Whether its process was killed. Defaults to False.
    """
    result: Any = None
    error: BaseException | None = None
    killed: bool = False
