"""What a worker tells its supervisor and hears from it, and how it drains."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from service.http.asgi import HttpApp
from service.processes.control import WorkerControl, enders
from service.rollout.messages import MAX_BYTES, ActiveCandidate, Channel, DesiredState, ObservedState

FIRST = DesiredState(3)


class Front:
    """Stands in for the edge."""

    def __init__(self) -> None:
        self.draining = False
        self.begun = 0
        self.sent = 0
        self.upkeeps = 0
        self.obeyed: list[DesiredState] = []

    def begin(self) -> "Front":
        self.begun += 1
        return self

    def reconcile(self, desired: DesiredState) -> None:
        self.obeyed.append(desired)

    def report(self) -> ObservedState:
        return ObservedState(serves=3)

    def upkeep(self) -> None:
        self.upkeeps += 1

    def reported(self) -> None:
        self.sent += 1

    def on_change(self, send_state: Callable[[], object]) -> None:
        self.send_state = send_state


class Scene:
    """A life with its end of the pipe; ``ends`` counts how often connections were told to end with the answer that is being
    made, ``stops`` how often it let nobody in any more, ``upkeeps`` how often the process was looked after.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.front = Front()
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.ends = 0
        self.stops = 0
        self.upkeeps = 0
        self.line = Channel(self.ours)
        self.control = WorkerControl(
            cast(HttpApp, self.front),
            lambda: self.front,
            Channel(self.theirs),
            FIRST,
            hang_seconds=0.2,
            drain_seconds=drain_seconds,
            upkeep=self.upkeep,
        )
        self.control.begin(self.finish, self.stop)

    def finish(self) -> None:
        self.ends += 1

    def stop(self) -> None:
        self.stops += 1

    def upkeep(self) -> None:
        self.upkeeps += 1

    async def hears(self) -> list[ObservedState]:
        async with asyncio.timeout(10):
            return list(self.line.parse(await asyncio.get_running_loop().sock_recv(self.ours, 10_000), ObservedState))


def play(scenario: Callable[[Scene], Awaitable[Any]], drain_seconds: float = 0.1) -> None:
    async def run() -> None:
        scene = Scene(drain_seconds)
        try:
            await scenario(scene)
        finally:
            asyncio.get_running_loop().remove_reader(scene.theirs)
            scene.ours.close()
            scene.theirs.close()

    asyncio.run(run())


def test_it_says_again_and_again_that_it_lives() -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.front.begun == 1
        for _ in range(3):
            assert await scene.hears() == [ObservedState(serves=3)]
            await asyncio.sleep(0.06)

    play(scenario)


def test_what_it_serves_and_the_process_are_looked_after_at_each_beat() -> None:
    async def scenario(scene: Scene) -> None:
        async with asyncio.timeout(10):
            while scene.upkeeps < 3:
                await asyncio.sleep(0.01)
        assert scene.front.upkeeps == scene.upkeeps

    play(scenario)


def test_a_report_that_is_too_long_is_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    class Talker(Front):
        def report(self) -> ObservedState:
            return ObservedState(serves=3, progress=cast(Any, "x" * MAX_BYTES))

    async def scenario(scene: Scene) -> None:
        scene.control.service = cast(Any, Talker())
        await scene.hears()
        scene.control.send_state()
        assert await scene.hears() == [ObservedState(serves=3)]

    play(scenario)
    assert "is not sent" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_terminal_s_signals_end_a_service_well_unless_they_are_ignored(number: signal.Signals) -> None:
    assert number in enders(signal.SIGTERM)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert number not in enders(signal.SIGTERM)
        assert signal.SIGTERM in enders(signal.SIGTERM)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("cause", ["SIGTERM", "SIGHUP", "the supervisor is gone"])
def test_it_drains_and_a_moment_later_lets_nobody_in(cause: str) -> None:
    async def scenario(scene: Scene) -> None:
        if cause.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[cause])
        else:
            scene.ours.close()
        async with asyncio.timeout(10):
            while not scene.front.draining:
                await asyncio.sleep(0.01)
        assert (scene.ends, scene.stops) == (1, 0)
        async with asyncio.timeout(10):
            while not scene.stops:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert scene.stops == 1

    play(scenario)


def test_it_obeys_the_first_orders_and_each_that_come_later() -> None:
    later = DesiredState(4, {4: "here", 5: "there"}, ActiveCandidate(5, "canary", 10, datetime(2026, 1, 2, tzinfo=UTC)))

    async def scenario(scene: Scene) -> None:
        assert scene.front.obeyed == [FIRST]
        assert scene.line.send(later)
        async with asyncio.timeout(10):
            while later not in scene.front.obeyed:
                await asyncio.sleep(0.01)
        assert not scene.front.draining

    play(scenario)


def test_a_change_is_told_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hears()
        said = scene.front.sent
        scene.front.send_state()
        assert scene.front.sent == said + 1  # in the same turn of the loop, in which it does not speak by itself
        assert ObservedState(serves=3) in await scene.hears()

    play(scenario)


def test_a_supervisor_that_does_not_listen_does_not_stop_it_and_counts_are_not_given_up() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(5000):
            scene.control.beat(asyncio.get_running_loop())
        assert not scene.front.draining
        told = scene.front.sent
        assert 0 < told < 5000
        heard = 0
        while heard < told:  # the one that was cut off in the middle ends with the next
            heard += len(await scene.hears())
            scene.control.send_state()

    play(scenario)
