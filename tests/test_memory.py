"""What a message can make the job need: a bound on memory for the worst files, each in a process of its own."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

AS_OF = "2026-06-01T00:00:00Z"
BOUND = 700_000  # kilobytes; a run over one small message needs a quarter of it
# In a small process between: what this one holds counts for a child until the child becomes another program.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
ROOT = Path(__file__).parent.parent


def entries(number: int) -> bytes:
    """A Bundle of that many small resources."""
    each = b",".join(b'{"resource":{"resourceType":"Slot","id":"%d"}}' % n for n in range(number))
    return b'{"resourceType":"Bundle","type":"collection","entry":[' + each + b"]}"


def nested(levels: int) -> bytes:
    opening, closing = b'{"resourceType":"Bundle","entry":[{"resource":', b"}]}"
    return opening * levels + b'{"resourceType":"Observation"}' + closing * levels


def circle(number: int) -> bytes:
    """Patients each of which links to the next, the last to the first."""
    people = [
        {"resourceType": "Patient", "id": str(n), "link": [{"other": {"reference": f"Patient/{(n + 1) % number}"}}]}
        for n in range(number)
    ]
    return json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in people]}).encode()


def bomb() -> bytes:
    """A line of 150 MB."""
    return b'{"id":"1"}\n' + b" " * 150_000_000


def in_zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a", data)
    return out.getvalue()


def in_tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("a")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


WORST = {
    "a Bundle of 100,000 entries": (lambda: entries(100_000), {"no_route": 100_000}),
    "a document of 63 MB": (
        lambda: b'{"resourceType":"Observation","x":"' + b"x" * 63_000_000 + b'"}',
        {"no_route": 1},
    ),
    "a document of 70 MB": (
        lambda: b'{"resourceType":"Observation","x":"' + b"x" * 70_000_000 + b'"}',
        {"too_large": 1},
    ),
    "300 Bundles in one another": (lambda: nested(300), {"too_deep": 1}),
    "10,000 levels": (lambda: b'{"resourceType":"Patient","a":' + b'{"a":' * 10_000, {"too_deep": 1}),
    "references in a circle": (lambda: circle(10_000), {"identity": 10_000}),
    "a bomb in gzip": (lambda: gzip.compress(bomb(), 1), {"too_large": 1}),
    "a bomb in zip": (lambda: in_zip(bomb()), {"too_large": 1}),
    "a bomb in tar.gz": (lambda: in_tar(bomb()), {"too_large": 1}),
}


@pytest.mark.parametrize("name", WORST)
def test_memory_is_bounded(tmp_path: Path, name: str) -> None:
    make, reasons = WORST[name]
    source, out = tmp_path / "file", tmp_path / "out"
    source.write_bytes(make())
    limen = [sys.executable, "-m", "pipelines.cli", "run", "--input", source, "--output", out, "--as-of", AS_OF]
    command = [sys.executable, "-c", MEASURE, *limen, "--state", tmp_path / "state"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "summary.json").read_bytes())["reasons"]
    assert {reason: found.get(reason) for reason in reasons} == reasons
    kilobytes = int(done.stdout.split()[-1])
    assert kilobytes < BOUND, f"{kilobytes // 1000} MB"
