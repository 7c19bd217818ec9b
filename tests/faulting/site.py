"""Where faults happen: a data folder on a disk of its own, a server on it, and hands on all its processes."""

import asyncio
import mmap
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg

from audit.note import Verifier
from server.embedded import _working_in
from tests.e2e.house import House, Server, until
from tests.faulting.peers import facing

DISK = "1200m"
FAILOVER_PATIENCE = 20.0
"""Seconds after which nobody is waited for any more to lead."""
_KEYS = "SELECT public_key FROM audit_key ORDER BY created_at"
_LEADER = """
    SELECT pid, backend_start::text AS begun FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = 0 AND objid = x'74726565'::bigint AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


Leading: TypeAlias = tuple[int, str]
"""A connection that leads, told apart for good: the process that serves it, and since when."""


class Site:
    """``start`` it, have faults happen, ``leave`` it. Without the right to mount there is no disk that can be full."""

    def __init__(self) -> None:
        # On a disk, not in memory: these faults are about what is durable.
        folder = Path(tempfile.mkdtemp(prefix="chamberlain-faults-", dir="/tmp"))
        folder.chmod(0o755)
        self.house = House(folder)
        self.system = self.house.folder / "system"
        self.disk = self._mounted()
        self._clock = self.house.folder / "clock"
        self._clock.write_bytes(bytes(8))
        self.clock = self._preloaded()
        self.server: Server
        self._port = 0

    def _mounted(self) -> bool:
        if os.geteuid() != 0:
            return False
        self.system.mkdir(mode=0o755)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(self.system)],
            capture_output=True,
            check=False,
        )
        return mounted.returncode == 0

    def _preloaded(self) -> bool:
        """Compile the clock that can be set; every server of this site has it from then on."""
        source, library = Path(__file__).with_name("clock.c"), self.house.folder / "clock.so"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        self.environment = {"LD_PRELOAD": str(library), "FAULT_CLOCK": str(self._clock)}
        return True

    def start(self) -> None:
        before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "FAULT_CLOCK")}
        os.environ.update(self.environment if self.clock else {})
        try:
            self.server = self.house.start(log_level="warning", http_port=self._port)
            self._port = int(self.server.http.rpartition(":")[2])  # clients come back to the same address
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)

    def restart(self, *command: str) -> None:
        """End the server in good order, and start it again, or another program in its place."""
        assert self.server.stop() == 0, self.server.log
        self.house.command = command or self.house.command
        self.start()

    def leave(self) -> None:
        with suppress(AttributeError):
            self.resume(self.everybody())
            self.server.stop()
        if self.disk:
            subprocess.run(["umount", str(self.system)], check=False)
        self.house.leave()

    # -- processes --

    @property
    def cluster(self) -> Path:
        return (self.house.data / "postgres").resolve()

    def postgres(self) -> set[int]:
        return _working_in(self.cluster)

    def postmaster(self) -> int:
        return int((self.cluster / "postmaster.pid").read_text().split()[0])

    def workers(self) -> list[int]:
        return list(self.server.workers().values())

    def everybody(self) -> list[int]:
        return [*self.house.processes(), *self.postgres()]

    async def backends(self) -> list[int]:
        """Those that serve the application, the log's writer and the sequencer among them."""
        rows = await self.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'chamberlain_app'")
        return [row["pid"] for row in rows]

    async def leader(self) -> tuple[int, "Leading"]:
        """The worker whose sequencer leads, and the connection by which it does."""
        [row] = await self.sql(_LEADER)
        worker = facing(row["pid"], self.workers())
        assert worker is not None, "the leader is no worker of this server's"
        return worker, (row["pid"], row["begun"])

    async def led(self, other_than: "Leading | None" = None) -> float:
        """When somebody leads, by another connection than that; or when nobody was waited for any more."""
        deadline = time.monotonic() + FAILOVER_PATIENCE
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        while time.monotonic() < deadline:
            try:
                connection = connection or await self.connect()
                row = await connection.fetchrow(_LEADER, timeout=2)
                if row is not None and (row["pid"], row["begun"]) != other_than:
                    break
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(0.05)
        found = time.monotonic()
        if connection is not None:
            connection.terminate()
        return found

    async def keys(self) -> list[Verifier]:
        """Those that the log signs with."""
        return [Verifier.read(row["public_key"]) for row in await self.sql(_KEYS)]

    def kill(self, pids: Iterable[int]) -> None:
        self._signal(pids, signal.SIGKILL)

    def suspend(self, pids: Iterable[int]) -> None:
        self._signal(pids, signal.SIGSTOP)

    def resume(self, pids: Iterable[int]) -> None:
        self._signal(pids, signal.SIGCONT)

    def _signal(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in list(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def restarted(self) -> None:
        """The supervisor was killed: once all its workers have left, start the server again."""
        await asyncio.to_thread(self.server.process.wait)
        await asyncio.to_thread(until, lambda: not self._orphans(), "the end of the workers")
        await asyncio.to_thread(self.start)

    def _orphans(self) -> list[int]:
        found = []
        for pid in self.house.processes():
            with suppress(OSError):
                if b"server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    # -- the database --

    @property
    def socket(self) -> Path:
        return self.cluster.parent / "socket" / ".s.PGSQL.5432"

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """As the superuser, who is kept from nothing."""
        return await asyncpg.connect(
            host=str(self.socket.parent), user="postgres", database="chamberlain", timeout=5, command_timeout=60
        )

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await self.connect()
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    # -- the clock and the disk --

    def offset(self) -> timedelta:
        (seconds,) = struct.unpack("=q", self._clock.read_bytes())
        return timedelta(seconds=seconds)

    def set_clock(self, seconds: int) -> None:
        with self._clock.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            shared[:8] = struct.pack("=q", seconds)

    def fill(self) -> Path:
        """Take all the space that is left."""
        with tempfile.NamedTemporaryFile(dir=self.system, prefix="filler-", delete=False) as filler, suppress(OSError):
            while True:
                filler.write(bytes(1 << 20))
                filler.flush()
        return Path(filler.name)
