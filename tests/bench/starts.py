"""How long a start takes: the first one, which makes the database, and the second, which finds it."""

import time
from pathlib import Path

from tests.bench import servers
from tests.bench.rows import Row


async def measure(place: Path) -> list[Row]:
    data = place / "first"
    rows = []
    for name in ("first start", "second start"):
        started = time.perf_counter()
        async with servers.chamberlain(data, {"CHAMBERLAIN_SYSTEM_DIR": str(place / "starts")}, workers=1):
            rows.append(Row(f"{name}, until requests are served", time.perf_counter() - started, "s"))
    return rows
