from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from ...datasets.class_names import check_class_names, class_names, class_names_of_checkpoint


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Checks, before training, that training set, validation set and teacher have the same class order.

    Class names are compared: ``metainfo['classes']`` of a data set, ``meta['dataset_meta']`` of a checkpoint. A data set or
    checkpoint without names is not checked, nor is a teacher with a different number of classes. The tools add this hook to
    every training.

    Raises:
        ConfigError: If a class has a different number in the validation set or in the teacher's checkpoint.
    """

    def before_train(self, runner) -> None:
        """Compare the class names."""
        known = class_names(getattr(runner.train_dataloader.dataset, 'metainfo', None))
        validation = getattr(runner.val_loop, 'dataloader', None)
        if validation is not None:
            check_class_names(known, 'train_dataloader', class_names(getattr(validation.dataset, 'metainfo', None)),
                              'val_dataloader')
        teacher = (runner.cfg.get('model') or {}).get('teacher_ckpt')
        of_teacher = class_names_of_checkpoint(teacher) if teacher and known else ()
        if len(of_teacher) == len(known):
            check_class_names(known, 'train_dataloader', of_teacher, f"model.teacher_ckpt='{teacher}'",
                              'Train on the classes of the teacher in its order, or use another teacher')
