from .distpro_search_loop import DistProSearchLoop
from .l2t_train_loop import L2TTrainLoop
from .reproducible_train_loop import ReproducibleTrainLoop

__all__ = ['DistProSearchLoop', 'L2TTrainLoop', 'ReproducibleTrainLoop']
