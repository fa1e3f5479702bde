"""One model as a process serves it: its loaded versions, its queue, its traffic split, and what is recorded of its answers."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from models.package.manifest import Manifest
from service.inference.batcher import Batcher
from service.monitoring.recorder import Aftermath
from service.rollout.loaded import Holding
from service.rollout.messages import Orders, Report
from service.rollout.traffic import Contest


@dataclass(frozen=True)
class ServedModel:
    """holding: its versions in memory. batcher: its queue. contest: which version answers a request. aftermath: records it."""

    holding: Holding
    batcher: Batcher
    contest: Contest
    aftermath: Aftermath

    @property
    def manifest(self) -> Manifest:
        """Of the live version."""
        return self.holding.serving.manifest

    def busy_seconds(self) -> float:
        return self.batcher.busy_seconds()

    def obey(self, orders: Orders) -> None:
        self.holding.obey(orders)

    def report(self) -> Report:
        return msgspec.structs.replace(self.holding.report(), progress=self.contest.progress())

    def reported(self) -> None:
        self.contest.reported()

    def on_change(self, speak: Callable[[], object]) -> None:
        self.holding.changed = speak
