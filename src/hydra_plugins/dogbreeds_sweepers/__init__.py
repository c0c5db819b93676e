"""What `-m` does: Hydra's sweepers, which hand the command line to `dogbreeds.hpo`.

Hydra imports this at every start, so nothing slow is imported at module level.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import configure_log
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from dogbreeds.hpo.plan import Plan


class LocalSearch(Sweeper):
    """Searches on this machine."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._loader, self._config = hydra_context.config_loader, config

    def sweep(self, arguments: list[str]) -> None:
        from dogbreeds.hpo.resuming import planned

        plan, directory = planned(arguments, self._config, self._loader)
        directory.mkdir(parents=True, exist_ok=True)
        with open_dict(self._config):
            self._config.hydra.runtime.output_dir = str(directory)
        configure_log(self._config.hydra.job_logging, self._config.hydra.verbose)
        self._search(plan, directory)

    def _search(self, plan: Plan, directory: Path) -> None:
        from dogbreeds.directories import refuse_search
        from dogbreeds.hpo.local import search
        from dogbreeds.run_directory import TUNING_JOB

        if (directory / TUNING_JOB).is_file():
            refuse_search(directory)
        print(search(plan, directory).outcome)


class SagemakerSearch(LocalSearch):
    """Searches in a SageMaker tuning job."""

    def _search(self, plan: Plan, directory: Path) -> None:
        from dogbreeds.config import launch_settings
        from dogbreeds.sagemaker.commands import search

        # A resumed search runs where it was started, whatever is typed now.
        composed = self._loader.load_sweep_config(self._config, list(plan.space.fixed))
        print(search(launch_settings(composed), plan, directory))
