from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from ...errors import ConfigError
from ...models.checkpoints import read_weights
from ..unwrap import unwrap


@HOOKS.register_module()
class InitialStudentHook(Hook):
    """Starts the student from given weights, so that methods that are compared differ in nothing else.

    Weights of the same name and shape are taken; what a method adds to the student or freezes in it (a neck, the teacher's
    head) stays as it is. A resumed run is left as it is.

    Args:
        checkpoint (str): The student's weights.

    Raises:
        ConfigError: If the file cannot be read, or nothing of the backbone fits.
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
        weights = read_weights(self.checkpoint, 'custom_hooks: InitialStudentHook.checkpoint')
        frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
        fitting = {name: value for name, value in weights.items()
                   if name in own and own[name].shape == value.shape and name not in frozen}
        if not any(name.startswith('backbone.') for name in fitting):
            raise ConfigError(f"custom_hooks: InitialStudentHook.checkpoint='{self.checkpoint}' holds the weights of "
                              'another network than the student')
        student.load_state_dict(fitting, strict=False)
