"""Damage files of a finished run, start it again, and see whether every one was found.

    python benchmarks/reliability/damage.py [--short]

Before each start, about half of the units of work lose one random file to a bit flip, a block of zeros or a cut, and so
does about every other file that belongs to no unit. The start must restore every file, say which file of a unit was
damaged, and end with the results of the undisturbed run, to the bit. The last checkpoint but one is left alone: it is
read only if the last one is damaged.
"""

import json
import random
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures, runs
from examples.mpii_cooking.workspace import MANIFEST

SHORT_TRIES = 10  # of each kind of damage
BLOCK = 4096
SPARE = "manifest-before.json"  # in a unit: what was committed before
TIMED = (".html", ".json")  # files with these suffixes hold times, which differ when they are made again

ANCHOR = "`torch.load(weights_only=True)` of torch 2.13: {}; safetensors: no checksum in the format"


def flip(content: bytearray, generator: random.Random) -> None:
    """Flip one bit."""
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)


def zero(content: bytearray, generator: random.Random) -> None:
    """Zero a block, or all of a file that has not more; what is zero already gets ones."""
    start = generator.randrange(0, len(content), BLOCK)
    block = content[start : start + BLOCK]
    content[start : start + BLOCK] = bytes([0 if any(block) else 255]) * len(block)


def cut(content: bytearray, generator: random.Random) -> None:
    """Cut the end off."""
    del content[generator.randrange(len(content)) :]


class Damage(NamedTuple):
    """One kind of damage."""

    name: str
    tries: int
    apply: Callable[[bytearray, random.Random], None]
    anchor: str


DAMAGES = (
    Damage("one bit flipped", 2000, flip, ANCHOR.format("12 of 2,000 noticed, 1,971 used with other values")),
    Damage("one block of 4096 bytes zeroed", 500, zero, ANCHOR.format("123 of 500 noticed")),
    Damage("cut off at a random byte", 500, cut, ANCHOR.format("500 of 500 noticed")),
)


def measure(short: bool) -> Iterator[figures.Figure]:
    """Damage, start and compare until each kind of damage was tried often enough."""
    generator = random.Random(0)
    waiting = [damage for damage in DAMAGES for _ in range(SHORT_TRIES if short else damage.tries)]
    generator.shuffle(waiting)
    tried: Counter[Damage] = Counter(waiting)
    missed: defaultdict[Damage, list[str]] = defaultdict(list)
    kinds: set[str] = set()
    problems, starts = [], 0
    with TemporaryDirectory() as name:
        output, intact = Path(name, "run"), Path(name, "intact")
        expected, _ = runs.undisturbed(output, short=short)
        shutil.copytree(output, intact)
        while waiting:
            damaged = {}
            for path in choose_files(intact, generator)[: len(waiting)]:
                content = bytearray((intact / path).read_bytes())
                damage = waiting.pop()
                damage.apply(content, generator)
                (output / path).write_bytes(content)
                damaged[path] = damage, bytes(content)
            run = runs.start(output, short=short)
            problem = run.finish() or ", ".join(runs.differing(runs.outcome(output), expected))
            problems += [problem] if problem else []
            starts += 1
            for path, (damage, found) in damaged.items():
                kinds.add(_kind(path))
                if problem := not_found(path, found, output, intact, run.said):
                    missed[damage].append(f"{path}: {problem}")
                    shutil.copy2(intact / path, output / path)
            print(f"{starts} starts, {len(waiting)} tries left, {sum(map(len, missed.values()))} missed", flush=True)
    for damage in DAMAGES:
        yield figures.Figure(
            f"{damage.name} in a file of the output: found and made again",
            tried[damage] - len(missed[damage]), tried[damage],
            anchor=damage.anchor, detail=f"{len(kinds)} kinds of files", failures=tuple(missed[damage]),
        )  # fmt: skip
    yield figures.Figure(
        "starts on such a folder: results equal to the bit", starts - len(problems), starts, failures=tuple(problems)
    )


def choose_files(folder: Path, generator: random.Random) -> list[Path]:
    """Return the files to damage: none or one of a unit, since what is found first there ends the search."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    spares = {*folder.rglob(SPARE)}
    for spare in [*spares]:
        spares |= {spare.with_name(name) for name in json.loads(spare.read_text(encoding="utf-8"))["files"]}
    visible = [path.relative_to(folder) for path in files if path not in spares and not path.name.startswith(".")]
    by_owner: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in visible:
        by_owner[path.parent if (folder / path).with_name(MANIFEST).exists() else path].append(path)
    chosen = [generator.choice(of) for of in by_owner.values() if generator.random() < 0.5]
    generator.shuffle(chosen)
    return chosen


def _kind(path: Path) -> str:
    """Return the kind of file: its first folders and its name, without numbers."""
    return re.sub(r"\d+", "", "/".join((*path.parent.parts[:2], path.name)))


def not_found(path: Path, damaged: bytes, output: Path, intact: Path, said: str) -> str:
    """Return what shows that a damaged file was not found; "" if it was."""
    now = (output / path).read_bytes() if (output / path).exists() else b""
    if now == damaged or (path.suffix not in TIMED and now != (intact / path).read_bytes()):
        return "is not as it was"
    if (intact / path).with_name(MANIFEST).exists() and str(output / path) not in said:
        return "was not named"
    return ""


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.RUNS, measure))
