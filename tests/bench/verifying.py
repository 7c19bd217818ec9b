"""What the small verifier takes for a record, and in memory, of a short export and of one of a million records.

Exports are made up: what is timed reads nothing but files. Each is checked in a process of its own, as a reviewer does
it, and the processor's time counts, so that who else uses the machine does not.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from audit.note import Signer, signed
from tests.bench.rows import Row
from tests.bench.servers import BenchFailed

ROOT = Path(__file__).resolve().parents[2]
GROWTH, MEMORY = 1.5, 100.0
_PROGRAM = """
import resource, sys, time
from pathlib import Path
from audit.verify import LOG, export, read_key
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
started = time.process_time()
export(Path(sys.argv[1]), ([read_key(sys.argv[2], LOG)], []))
taken = time.process_time() - started
[peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(taken, peak)
"""


@dataclass(frozen=True)
class Plan:
    """How many records the two exports have."""

    few: int = 50_000
    many: int = 1_000_000


QUICK = Plan(few=200, many=2_000)


def measure(place: Path, plan: Plan) -> list[Row]:
    signer = Signer("chamberlain/bench", Ed25519PrivateKey.generate())
    taken: dict[int, float] = {}
    peak: dict[int, float] = {}
    for count in (plan.few, plan.many):
        folder = place / str(count)
        _write(folder, count, signer)
        taken[count], peak[count] = _checked(folder, signer)
    growth = (taken[plan.many] / plan.many) / (taken[plan.few] / plan.few)
    return [
        Row(f"verifying a record of {plan.many:,}, against one of {plan.few:,}", growth, "x", GROWTH, "at most"),
        Row(f"memory to verify {plan.many:,} records", peak[plan.many], "MiB", MEMORY, "at most"),
        Row(f"memory to verify {plan.few:,} records", peak[plan.few], "MiB"),
        Row(f"verifying {plan.many:,} records", taken[plan.many], "s"),
    ]


def _checked(folder: Path, signer: Signer) -> tuple[float, float]:
    """Seconds of the processor's time, and the most memory in MiB."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(signer.verifier)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BenchFailed(ran.stderr)
    taken, peak = ran.stdout.split()
    return float(taken), int(peak) / 1024


def _write(folder: Path, count: int, signer: Signer) -> None:
    """An export of that many records, all different, and of the size that a read's record has."""
    folder.mkdir()
    edge, lines = Edge(), sha256()
    with (folder / "records.jsonl").open("wb") as leaves, (folder / "hashes.bin").open("wb") as hashes:
        for number in range(count):
            leaf = _LEAF % (number % 60, number, number)
            hashed = leaf_hash(leaf)
            leaves.write(leaf + b"\n")
            lines.update(leaf + b"\n")
            hashes.write(hashed)
            edge.add(hashed)
    checkpoint = Checkpoint(signer.name, count, edge.root())
    digests = {
        "records.jsonl": lines.hexdigest(),
        "hashes.bin": sha256((folder / "hashes.bin").read_bytes()).hexdigest(),
    }
    kinds = {"records.jsonl": "leaves", "hashes.bin": "hashes"}
    manifest = {
        "format": 1,
        "origin": signer.name,
        "first": 0,
        "end": count,
        "checkpoint": str(signed(checkpoint.text(), [signer])),
        "before": [],
        "consistency": [],
        "checkpoints": [],
        "files": [{"name": name, "kind": kind, "sha256": digests[name]} for name, kind in kinds.items()],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


_LEAF = (
    b'{"action":"domain_user","at":"2026-11-23T05:44:%02d.912375Z","changes":[],"decision":{"allowed":true,'
    b'"policy":"63cb3b89281e57a583701e66ee90eef45b47a530ca25b5e314adcde3c886c7dd","roles":["domain_admin"],'
    b'"rule":"domain.csv:17"},"duration_us":4892,"entity":"user","id":"01a206d4-663e-749f-ba5c-%012x",'
    b'"operation":"get","phase":"done","principal":{"credential":"AKH36W7KRVGNMGGHHSTA","kind":"user",'
    b'"name":"user:01a206da-4345-7263-9791-c6fce3cef54f"},"request":{"id":"fdd09ade8a5574cc799e10e5f6085525",'
    b'"surface":"rest"},"result":"succeeded","salt":"%032x","scope":{"lineage":[{"id":'
    b'"01a206da-42e0-77fc-b8ec-881a879ce6f8","type":"domain"}],"type":"domain"},"sealed":[],"uses":[],"v":1}'
)
