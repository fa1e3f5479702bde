"""Networks that are loaded in one thread and end in another, each in a process of its own; then every thread gets a signal.

    python -m tests.service.freeing STORE    says as JSON how each scenario's process ended: 0, or less the signal that killed it

STORE has good:1, damaged:1 that answers otherwise than it promises, and odd:1 that OpenVINO does not compute.
"""

import ctypes
import gc
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime

from models.package.manifest import PackageError
from models.package.precision import CPU, OPENVINO
from service.inference.backends import choice
from service.inference.session import OnnxSession

STORE = Path(sys.argv[1])
BEST = OPENVINO if OPENVINO in onnxruntime.get_available_providers() else CPU


def load(name: str = "good") -> OnnxSession:
    return OnnxSession(STORE / name / "1", "cpu", "auto", threads=1)


def elsewhere(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def freed_by_another_thread() -> None:
    elsewhere(load().close)


def of_two_the_last_is_freed_by_the_thread_that_loaded_it() -> None:
    first = load()

    def replace() -> None:
        second = load()
        first.close()
        second.close()

    elsewhere(replace)


def refused_half_way_and_dropped_with_the_error_by_another_thread() -> None:
    errors: list[PackageError] = []
    choice.PROVIDERS["cpu"] = (BEST,)  # so that no other is tried, and the error is the one that holds the session
    try:
        load("damaged")
    except PackageError as err:
        errors.append(err)
    assert errors
    assert "golden" in str(errors[0])
    elsewhere(errors.clear)


def skipped_for_another_provider() -> None:
    loaded = load("odd")
    assert loaded.provider == CPU
    elsewhere(loaded.close)


def collected_by_another_thread() -> None:
    gc.disable()
    cycle: list[object] = [load()]
    cycle.append(cycle)
    del cycle
    elsewhere(gc.collect)


def held_until_the_process_ends() -> None:
    elsewhere(lambda: globals().update(held=load()))


SCENARIOS = (
    freed_by_another_thread,
    of_two_the_last_is_freed_by_the_thread_that_loaded_it,
    refused_half_way_and_dropped_with_the_error_by_another_thread,
    skipped_for_another_provider,
    collected_by_another_thread,
    held_until_the_process_ends,
)


def send_to_every_thread(number: signal.Signals) -> None:
    came: list[int] = []
    signal.signal(number, lambda number, frame: came.append(number))
    threads = list(Path("/proc/self/task").iterdir())
    for thread in threads:
        ctypes.CDLL(None).tgkill(os.getpid(), int(thread.name), number)
    while any(map(has_still_to_take_it, threads)):
        time.sleep(0.01)
    assert came


def has_still_to_take_it(thread: Path) -> bool:
    try:
        return re.search(r"^SigPnd:\t0*[1-9a-f]", (thread / "status").read_text(), re.M) is not None
    except OSError:  # it has ended
        return False


def main() -> None:
    ends: dict[str, int] = {}
    for scenario in SCENARIOS:
        if not (child := os.fork()):
            scenario()
            send_to_every_thread(signal.SIGTERM)
            return
        ends[scenario.__name__] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(json.dumps(ends) + "\n")


if __name__ == "__main__":
    main()
