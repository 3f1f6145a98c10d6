from .distpro_search_loop import DistProSearchLoop
from .distpro_whole_run_loop import DistProWholeRunLoop
from .l2t_train_loop import L2TTrainLoop
from .reproducible_train_loop import ReproducibleTrainLoop

__all__ = ['DistProSearchLoop', 'DistProWholeRunLoop', 'L2TTrainLoop', 'ReproducibleTrainLoop']
