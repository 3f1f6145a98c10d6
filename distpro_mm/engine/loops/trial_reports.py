"""What the log says of a search in rounds."""
import logging

from distpro.searching import Footprint, RoundSearch, RoundWatch

from ...errors import TrainingError


class TrialReports:
    """Logs the trials of a search, its warnings, and what it has found.

    Args:
        search (RoundSearch): The search.
        logger (logging.Logger): The log.
    """

    def __init__(self, search: RoundSearch, logger: logging.Logger) -> None:
        self._search, self._logger = search, logger
        self._watch = RoundWatch(search, 'train_cfg.')

    def stores(self, footprint: Footprint) -> None:
        """Log what a round stores."""
        self._logger.log(logging.WARNING if footprint.too_large else logging.INFO, f'Memory: {footprint}')

    def after_trial(self) -> None:
        """Log the last trial, and what has gone wrong."""
        search = self._search
        is_best = not search.trial.confirms and search.searcher.best is search.trial
        self._logger.info(search.report(search.trial) + ', the best so far' * is_best)
        for warning in self._watch.after_trial():
            self._logger.warning(warning)

    def at_the_end(self) -> None:
        """Log what the search has found.

        Raises:
            TrainingError: If no trial has a finite held-out loss.
        """
        search, searcher = self._search, self._search.searcher
        if searcher.best is None:
            raise TrainingError(f'the search is at its end, and none of its {len(searcher.history)} trials has a finite '
                                'held-out loss: lower optim_wrapper.optimizer.lr')
        warning = search.warning()
        if warning:
            self._logger.warning(warning)
        else:
            self._logger.info(search.result())
