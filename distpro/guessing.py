"""The accuracy of guessing, and teachers whose accuracy is no higher."""
import math
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

IMAGES, BATCHES = 500, 10  # the images, and at most so many batches, by which a teacher is judged


def chance(labels: Sequence[int]) -> tuple[float, float]:
    """The accuracy of guessing, and the accuracy that guessing exceeds in one of 40 cases.

    Args:
        labels (Sequence[int]): Labels of the images; the most frequent class is guessed.

    Returns:
        tuple[float, float]: Both in [0, 1]; the second one may be higher than 1 for very few images.
    """
    share = max(Counter(labels).values()) / len(labels)
    return share, share + 2 * math.sqrt(share * (1 - share) / len(labels))


class TeacherCheck:
    """Judges teachers by the first batches of a training: 500 images or 10 batches, whichever are fewer.

    Attributes:
        done (bool): Whether no more batches are wanted.
    """

    def __init__(self) -> None:
        self.done = False
        self._labels: list[int] = []
        self._right: Counter[str] = Counter()
        self._batches = 0

    def observe(self, logits: dict[str, Tensor], labels: Tensor) -> None:
        """Compare the logits with the labels of a batch.

        Args:
            logits (dict[str, Tensor]): Each teacher's logits [B, C]; a single teacher has the name ''.
            labels (Tensor): Class indices [B].
        """
        for name, given in logits.items():
            self._right[name] += int((given.argmax(1).cpu() == labels.cpu()).sum())
        self._labels += labels.tolist()
        self._batches += 1
        self.done = len(self._labels) >= IMAGES or self._batches >= BATCHES

    def warnings(self, advice: str) -> list[str]:
        """A warning for each teacher that is no better than guessing on the images so far, of which there is one at least.

        Args:
            advice (str): What to try, the end of a warning.
        """
        share, limit = chance(self._labels)
        found = []
        for name, right in self._right.items():
            accuracy = right / len(self._labels)
            if accuracy <= limit:
                found.append(f"The teacher{f' {name!r}' if name else ''} is right on {accuracy:.1%} of the first "
                             f'{len(self._labels)} training images, and guessing the most frequent class on {share:.1%}: '
                             f'its logits are misleading. {advice}')
        return found
