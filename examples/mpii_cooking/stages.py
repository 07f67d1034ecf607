"""Makes the units of a stage that are not done, and says which of them were done before and no longer fit, and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from examples.mpii_cooking import distributed
from examples.mpii_cooking.made_by import made_now
from examples.mpii_cooking.workspace import MANIFEST, Unit

MOST_REASONS = 3  # that are said of one unit

Item = TypeVar("Item")


def make_missing(
    stage: str, items: Sequence[Item], unit_of: Callable[[Item], Unit], make: Callable[[Item, Unit], object], noun: str
) -> None:
    """Make every item's unit that is not done; ranks share them. All ranks must call it, as ``shared_map``."""

    def attempt(item: Item) -> None:
        unit = unit_of(item)
        if not unit.done:
            make(item, unit)

    say_what_no_longer_fits(stage, map(unit_of, items))
    distributed.shared_map(attempt, items, desc=stage, unit=noun)


def say_what_no_longer_fits(stage: str, units: Iterable[Unit]) -> None:
    """Print how many units were made from something else than now and are made again, and what differs."""
    if distributed.is_main():
        again = ((stage, unit.kept["inputs"], unit.inputs) for unit in units if unit.kept and not unit.fitting)
        for line in _lines(again):
            print(line, flush=True)


def made_otherwise(folders: Iterable[Path]) -> list[str]:
    """Say what in folders of units other code or other versions of packages made, stage by stage."""
    found = []
    for folder in folders:
        for path in folder.rglob(MANIFEST):
            kept = Unit(path.parent, None).kept
            was = {name: kept["inputs"].get(name, {}) for name in ("code", "version")} if kept else {}
            if was != made_now(was):
                found.append((path.relative_to(folder).parts[0], was, made_now(was)))
    return _lines(found)


def differences(old: object, new: object, name: str = "") -> Iterator[str]:
    """Yield in words how ``new`` JSON values differ from ``old`` ones, each with the keys that lead to it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name} {key}".lstrip())
    elif old != new:
        values = [_short(value) for value in (old, new)]
        yield f"{name} changed" if None in values else f"{name} was {values[0]}, is {values[1]}"


def _lines(found: Iterable[tuple[str, object, object]]) -> list[str]:
    """Return a line for every stage and reason, given the stage of each unit and what made it before and would now."""
    again = Counter((stage, _reason(was, now)) for stage, was, now in found)
    return [f"{stage}: {count} no longer fit and are made again: {why}" for (stage, why), count in again.items()]


def _reason(was: object, now: object) -> str:
    found = list(differences(was, now))
    more = [f"and {len(found) - MOST_REASONS} more"] if len(found) > MOST_REASONS else []
    return "; ".join(found[:MOST_REASONS] + more)


def _short(value: object) -> str | None:
    """Return a number or a short text as it is shown; None for digests, lists and what is not there."""
    is_shown = isinstance(value, int | float) or (isinstance(value, str) and len(value) < 32)
    return str(value) if is_shown else None
