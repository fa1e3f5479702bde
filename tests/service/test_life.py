"""What a worker tells its supervisor, and how it drains."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from service.edge import Edge
from service.life import ALIVE, HUNG, Life


class Front:
    """Stands in for the edge."""

    def __init__(self) -> None:
        self.draining = False
        self.busy = 0.0
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def busy_seconds(self) -> float:
        return self.busy


class Scene:
    """A life with its end of the pipe; ``stops`` counts how often it let nobody in any more."""

    def __init__(self, drain_seconds: float) -> None:
        self.front = Front()
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.stops = 0
        self.life = Life(cast(Edge, self.front), self.theirs, hang_seconds=0.2, drain_seconds=drain_seconds)
        self.life.begin(self.stop)

    def stop(self) -> None:
        self.stops += 1

    async def hears(self) -> bytes:
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(self.ours, 100)


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
            assert set(await scene.hears()) == set(ALIVE)
            await asyncio.sleep(0.06)

    play(scenario)


def test_it_says_when_the_network_computes_for_too_long() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hears()
        scene.front.busy = 0.3
        async with asyncio.timeout(10):
            while HUNG not in await scene.hears():
                pass

    play(scenario)


@pytest.mark.parametrize("cause", ["SIGTERM", "the supervisor is gone"])
def test_it_drains_and_a_moment_later_lets_nobody_in(cause: str) -> None:
    async def scenario(scene: Scene) -> None:
        if cause == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            scene.ours.close()
        async with asyncio.timeout(10):
            while not scene.front.draining:
                await asyncio.sleep(0.01)
        assert scene.stops == 0
        async with asyncio.timeout(10):
            while not scene.stops:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert scene.stops == 1

    play(scenario)


def test_a_supervisor_that_does_not_listen_does_not_stop_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(5000):
            scene.life.beat(asyncio.get_running_loop())
        assert not scene.front.draining

    play(scenario)
