import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from torch import Tensor

from distpro.guessing import TeacherCheck
from distpro.random_state import preserve_random_states
from distpro.tracing import find_logits

from ...models.algorithms.several_teachers import SeveralTeachers
from ..unwrap import unwrap

ADVICE = ('Check model.teacher_ckpt, model.teacher_input (size and normalisation of its images) and the order of the '
          'classes, or train the teacher first')


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Warns at the start of a distillation or a search if the teacher is no better than guessing.

    The teacher classifies the first training images, 500 of them or those of 10 batches. That takes no more than 10
    forwards, and changes no random number of the training. It is for teachers with a logit for each class, and images with
    one label each. ``tools/train.py`` and :func:`.build_trainer` add it to every training.
    """
    priority = 'LOW'

    def before_train(self, runner) -> None:
        """Find the teacher."""
        model = unwrap(runner.model)
        has_teacher = hasattr(model, 'teacher') and not getattr(model, 'teacher_trainable', False)
        self._check = TeacherCheck() if has_teacher and runner.iter == 0 else None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Let the teacher classify a batch."""
        if self._check is None:
            return
        model = unwrap(runner.model)
        with preserve_random_states(next(model.parameters()).device):
            found = _classified(model, data_batch)
        if found is not None:
            self._check.observe(*found)
            for warning in self._check.warnings(ADVICE) if self._check.done else ():
                runner.logger.warning(warning)
        if found is None or self._check.done:
            self._check = None


@torch.no_grad()
def _classified(model: torch.nn.Module, data_batch: dict) -> tuple[dict[str, Tensor], Tensor] | None:
    """Each teacher's logits [B, C] and the labels [B] of a batch; None if images have no single label, or no logits fit."""
    try:
        data = model.data_preprocessor(data_batch, False)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        outputs = model.teacher(data['inputs'], data['data_samples'], mode='tensor')
        several = outputs if isinstance(model.teacher, SeveralTeachers) else {'': outputs}
        logits = {name: find_logits(output) for name, output in several.items()}
    except Exception:  # a teacher or images of another kind: the training itself shows what is wrong
        return None
    student = getattr(getattr(model, 'architecture', None), 'head', None)
    classes = getattr(student, 'num_classes', None)
    fitting = {name: given for name, given in logits.items() if given.shape == (len(labels), classes)}
    return (fitting, labels) if fitting and not labels.is_floating_point() else None
