"""
The network between processes and server: one lane (a port of its own) per process.

A lane forwards what it reads, and can be made to misbehave. A closed gate lets nothing enter; what is under way
arrives. What it holds back is not lost: it arrives when the gate opens, late and in order, as TCP would deliver it;
or never, if the connection is cut first.

Rule: everything runs in one thread with one event loop; a lane is steered from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

CHUNK = 64 * 1024
QUEUED_CHUNKS = 256
"""Between the two ends of a connection; then the sender feels it."""
CALL_TIMEOUT_S = 10.0


class Direction:
    """One direction of a lane."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.delay_s = 0.0
        self.bytes_per_s = 0.0  # 0: as fast as it goes


class Lane:
    """A port that leads to the server."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.up = Direction()  # towards the server
        self.down = Direction()
        self.refusing = False
        self.port = 0

    # From any thread.

    def cut(self, *, refuse: bool = False) -> None:
        """Break every connection; with *refuse*, new ones too until `heal`."""
        self._proxy.call(self._cut, refuse)

    def close_gates(self, *, up: bool = True, down: bool = True) -> None:
        """Swallow silently what goes *up* or *down*: the connection looks alive."""
        self._proxy.call(self._close_gates, up, down)

    def slow(self, *, delay_s: float = 0.0, bytes_per_s: float = 0.0, up: bool = True) -> None:
        """Delay everything, or let only so much through; without *up*, only what goes down."""
        self._proxy.call(self._slow, delay_s, bytes_per_s, up)

    def heal(self) -> None:
        """Behave again; what was held back arrives."""
        self._proxy.call(self._heal)

    # In the loop.

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop, and break every connection."""
        if self._server is not None:
            self._server.close()
        await self._cut(refuse=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut(self, refuse: bool) -> None:
        self.refusing = refuse
        for writer in list(self._writers):
            writer.transport.abort()

    async def _close_gates(self, up: bool, down: bool) -> None:
        if up:
            self.up.gate.clear()
        if down:
            self.down.gate.clear()

    async def _slow(self, delay_s: float, bytes_per_s: float, up: bool) -> None:
        for direction in (self.up, self.down) if up else (self.down,):
            direction.delay_s = delay_s
            direction.bytes_per_s = bytes_per_s

    async def _heal(self) -> None:
        self.refusing = False
        await self._slow(0.0, 0.0, up=True)
        self.up.gate.set()
        self.down.gate.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.refusing:
                return
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
                self._writers.add(far_writer)
                try:
                    await self._forward_both(reader, writer, far_reader, far_writer)
                finally:
                    self._writers.discard(far_writer)
                    far_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Until either direction ends."""
        both = [
            asyncio.create_task(_forward(reader, far_writer, self.up)),
            asyncio.create_task(_forward(far_reader, writer, self.down)),
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._tasks.difference_update(both)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: Direction) -> None:
    """One direction of one connection; what is under way keeps its order and its own delay."""
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)
    now = asyncio.get_running_loop().time

    async def read() -> None:
        data = b"-"
        while data:
            data = await reader.read(CHUNK)
            await how.gate.wait()
            await chunks.put((now() + how.delay_s, data))

    reading = asyncio.create_task(read())
    try:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(max(0.0, due - now()))
            if not data:
                return
            if how.bytes_per_s:
                await asyncio.sleep(len(data) / how.bytes_per_s)
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class Proxy:
    """The thread with all lanes. A context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="torture-proxy", daemon=True)
        self._lanes: list[Lane] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for lane in self._lanes:
            with contextlib.suppress(TimeoutError):
                self.call(lane.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()

    def add_lane(self, host: str, port: int) -> Lane:
        """Open a lane to a server."""
        lane = Lane(self, host, port)
        self.call(lane.open)
        self._lanes.append(lane)
        return lane

    def call(self, function: Callable[..., Coroutine[Any, Any, None] | Awaitable[None]], *args: object) -> None:
        """Run a coroutine of a lane, and wait for its end."""

        async def run() -> None:
            await function(*args)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_TIMEOUT_S)
