"""One model as a worker serves it: its versions, admission to its queue, its traffic split, what is recorded of its answers."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from models.package.manifest import Manifest
from service.inference.admission import Admission
from service.monitoring.recorder import Recorder
from service.rollout.loaded import LoadedModels
from service.rollout.messages import DesiredState, ObservedState
from service.rollout.traffic import TrafficSplit
from service.telemetry import metrics


@dataclass(frozen=True)
class ServedModel:
    """loaded: its versions. admission: to its queue. traffic: which version answers a request. recorder: records it."""

    loaded: LoadedModels
    admission: Admission
    traffic: TrafficSplit
    recorder: Recorder

    @property
    def manifest(self) -> Manifest:
        """Of the live version."""
        return self.loaded.serving.manifest

    def reconcile(self, desired: DesiredState) -> None:
        self.loaded.reconcile(desired)

    def report(self) -> ObservedState:
        return msgspec.structs.replace(self.loaded.report(), progress=self.traffic.progress())

    def upkeep(self) -> None:
        """Is due about once a second."""
        self.loaded.upkeep()
        metrics.waiting(self.admission.forecast(), self.admission.max_queue_seconds)

    def reported(self) -> None:
        self.traffic.reported()

    def on_change(self, send_state: Callable[[], object]) -> None:
        self.loaded.changed = send_state
