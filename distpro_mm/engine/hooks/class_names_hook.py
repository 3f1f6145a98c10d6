from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from ...datasets.class_names import check_class_names, class_names, class_names_of_checkpoint


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Checks, before a training starts, that training set, validation set and teacher number their classes alike.

    Only names are compared: what has no names (``metainfo['classes']``, in a checkpoint ``meta['dataset_meta']``) is not
    checked. A teacher of another number of classes is not checked either. Added to every training.

    Raises:
        ConfigError: If a class has another number in the validation set or in the teacher's checkpoint.
    """

    def before_train(self, runner) -> None:
        """Check them."""
        known = class_names(getattr(runner.train_dataloader.dataset, 'metainfo', None))
        validation = getattr(runner.val_loop, 'dataloader', None)
        if validation is not None:
            check_class_names(known, 'train_dataloader', class_names(getattr(validation.dataset, 'metainfo', None)),
                              'val_dataloader')
        teacher = (runner.cfg.get('model') or {}).get('teacher_ckpt')
        taught = class_names_of_checkpoint(teacher) if teacher and known else ()
        if len(taught) == len(known):
            check_class_names(known, 'train_dataloader', taught, f"model.teacher_ckpt='{teacher}'",
                              'Train on the classes of the teacher in their order, or with another teacher')
