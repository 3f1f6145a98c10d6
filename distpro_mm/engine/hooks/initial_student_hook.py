from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from ...errors import ConfigError
from ...models.checkpoints import read_weights, with_names_of
from ..unwrap import unwrap


@HOOKS.register_module()
class InitialStudentHook(Hook):
    """Initialises the student from a checkpoint, so that compared methods start from the same weights.

    Weights with the same name and shape are loaded. Parts that a method adds to the student or freezes in it (a neck, the
    teacher's head) keep their own weights. A resumed run is not changed.

    Args:
        checkpoint (str): Checkpoint with the student's weights, file or URL.

    Raises:
        ConfigError: If the checkpoint cannot be read, or no weight of the backbone, or of a network without that name, fits.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def before_train(self, runner) -> None:
        """Load the weights."""
        if runner.iter:
            return
        model = unwrap(runner.model)
        student = getattr(model, 'architecture', model)
        own = student.state_dict()
        weights = with_names_of(read_weights(self.checkpoint, 'custom_hooks: InitialStudentHook.checkpoint'), own)
        frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
        fitting = {name: value for name, value in weights.items()
                   if name in own and own[name].shape == value.shape and name not in frozen}
        part = 'backbone.' if any(name.startswith('backbone.') for name in own) else ''
        if not any(name.startswith(part) for name in fitting):
            raise ConfigError(f"custom_hooks: InitialStudentHook.checkpoint='{self.checkpoint}' has the weights of "
                              'a network different from the student')
        student.load_state_dict(fitting, strict=False)
