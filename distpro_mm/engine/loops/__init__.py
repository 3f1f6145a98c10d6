from .distpro_search_loop import DistProSearchLoop
from .reproducible_train_loop import ReproducibleTrainLoop

__all__ = ['DistProSearchLoop', 'ReproducibleTrainLoop']
