"""What several processes decide together."""
from mmengine.dist import all_reduce
from torch import Tensor


def in_any_process(flag: Tensor) -> bool:
    """Whether a boolean scalar is true in any process; all must ask at the same time."""
    found = flag.float()
    all_reduce(found, op='max')
    return bool(found)
