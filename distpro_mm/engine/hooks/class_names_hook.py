from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from ...datasets.class_names import check_class_names, class_names, class_names_of_checkpoint


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Checks, before training, that training, held-out and validation set, teacher and resumed run have one class order.

    Class names are compared: ``metainfo['classes']`` of a data set, ``meta['dataset_meta']`` of a checkpoint. A data set or
    checkpoint without names is not checked, nor is a teacher with a different number of classes. The tools add this hook to
    every training.

    Raises:
        ConfigError: If a class has a different number in the held-out or validation set, or in the checkpoint of the teacher
            or of the run that is resumed.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the class names of a run that is resumed."""
        if runner._resume:
            check_class_names(_names(runner.train_loop.dataloader), 'train_dataloader',
                              class_names((checkpoint.get('meta') or {}).get('dataset_meta')),
                              f"--resume '{runner._load_from}'", 'Resume with the classes of the run in their order')

    def before_train(self, runner) -> None:
        """Compare the class names."""
        known = _names(runner.train_dataloader)
        for key, loader in (('val_dataloader', getattr(runner.val_loop, 'dataloader', None)),
                            ('train_cfg.held_out_dataloader', getattr(runner.train_loop, 'held_out_dataloader', None))):
            if loader is not None:
                check_class_names(known, 'train_dataloader', _names(loader), key)
        given = (runner.cfg.get('model') or {}).get('teacher_ckpt')
        several = given if isinstance(given, dict) else {'': given}
        for name, teacher in several.items():
            of_teacher = class_names_of_checkpoint(teacher) if teacher and known else ()
            if len(of_teacher) == len(known):
                check_class_names(known, 'train_dataloader', of_teacher,
                                  f"model.teacher_ckpt{f'.{name}' * bool(name)}='{teacher}'",
                                  'Train on the classes of the teacher in its order, or use another teacher')


def _names(loader) -> tuple[str, ...]:
    """The names of the classes of a loader's data set; empty if it has none."""
    return class_names(getattr(loader.dataset, 'metainfo', None))
