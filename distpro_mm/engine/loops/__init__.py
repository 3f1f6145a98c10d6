from .distpro_one_step_search_loop import DistProOneStepSearchLoop
from .distpro_search_loop import DistProSearchLoop
from .l2t_train_loop import L2TTrainLoop
from .ray_search_loop import RaySearchLoop, TrialLoop
from .reproducible_train_loop import ReproducibleTrainLoop

__all__ = ['DistProOneStepSearchLoop', 'DistProSearchLoop', 'L2TTrainLoop', 'RaySearchLoop', 'ReproducibleTrainLoop',
           'TrialLoop']
