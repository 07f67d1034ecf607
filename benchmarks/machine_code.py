"""Read NVIDIA machine code: what is in it, and the cheapest ways through it.

The text is that of ``nvdisasm -c -g``, in which a comment above an instruction names the line of source it came from.
"""

import ast
import heapq
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

ENTRY, EXIT = -1, -2
"""The nodes before the first block and after the last."""

SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16, "256": 32}
"""Bytes that a load or a store moves, by the part of its name that says so; 4 where none does."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of one thread."""

    name: str  #: with all its parts: "LDG.E.128"
    guard: str  #: the predicate under which it runs, "" if always
    operands: str
    function: str  #: of the source, "" if unknown

    @property
    def operation(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]

    @property
    def width(self) -> int:
        """Bytes moved, for loads and stores."""
        parts = (part.lstrip("US") for part in self.name.split("."))
        return next((SIZES[part] for part in parts if part in SIZES), 4)

    @property
    def target(self) -> str:
        """The label that it jumps to, "" if to none. Some jumps far away are written as calls that do not return."""
        found = re.search(r"`\((\.L_x_\d+)\)", self.operands) if self.operation in ("BRA", "CALL") else None
        return found[1] if found else ""

    @property
    def ends_block(self) -> bool:
        """Whether another instruction than the next may come after it."""
        return bool(self.target) or self.operation in ("EXIT", "RET")

    @property
    def is_certain(self) -> bool:
        """Whether a jump or an exit is always taken. Jumps may have predicates among their operands too."""
        return not self.guard and (not self.target or self.operands.startswith("`"))


class Functions:
    """Which function a line of source belongs to."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._spans = {
            file.name: [
                (node.lineno, node.end_lineno or node.lineno, node.name)
                for node in ast.parse(file.read_text()).body
                if isinstance(node, ast.FunctionDef)
            ]
            for file in files
        }

    def at(self, file: str, line: int) -> str:
        """Return the function's name, "" if the line is in none that is known."""
        spans = self._spans.get(Path(file).name, [])
        return next((name for first, last, name in spans if first <= line <= last), "")


class Code:
    """A kernel's instructions in basic blocks, with the ways between them. Calls of functions are taken to return."""

    def __init__(self, text: str, functions: Functions) -> None:
        self.blocks: list[list[Instruction]] = []
        self._ways: dict[int, set[int]] = defaultdict(set)
        starts = self._read(text, functions)
        for place, block in enumerate(self.blocks):
            last = block[-1]
            if last.target:
                self._ways[place].add(starts[last.target])
            if last.operation == "EXIT":
                self._ways[place].add(EXIT)
            if not (last.ends_block and last.is_certain) and place + 1 < len(self.blocks):
                self._ways[place].add(place + 1)
        self._ways[ENTRY] = {0}

    def _read(self, text: str, functions: Functions) -> dict[str, int]:
        """Fill the blocks; return which one each label stands before."""
        starts: dict[str, int] = {}
        function, is_new = "", True
        for line in text.splitlines():
            if found := re.search(r'//## File "([^"]+)", line (\d+)', line):
                function = functions.at(found[1], int(found[2]))
            elif found := re.match(r"(\.L_x_\d+):", line):
                starts[found[1]], is_new = len(self.blocks), True
            elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@(!?\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", line):
                if is_new:
                    self.blocks.append([])
                instruction = Instruction(found[2], found[1] or "", found[3], function)
                self.blocks[-1].append(instruction)
                is_new = instruction.ends_block
        return starts

    def accesses(self, *operations: str, functions: Collection[str] = ()) -> list[Instruction]:
        """Return the loads or stores of some functions, or all of them."""
        found = [one for block in self.blocks for one in block if one.operation in operations]
        return [one for one in found if not functions or one.function in functions]

    def count(self, blocks: Iterable[int]) -> int:
        """Return how many instructions some blocks have."""
        return sum(len(self.blocks[block]) for block in blocks if block >= 0)

    def way(self, start: int, goal: int) -> list[int]:
        """Return the blocks after ``start`` up to ``goal`` on the way with the fewest instructions.

        Where both are the same block this is its cheapest loop.
        """
        queue = [(self.count([block]), [block]) for block in self._ways[start]]
        heapq.heapify(queue)
        done: set[int] = set()
        while queue:
            cost, path = heapq.heappop(queue)
            if path[-1] == goal:
                return path
            if path[-1] not in done:
                done.add(path[-1])
                for block in self._ways[path[-1]]:
                    heapq.heappush(queue, (cost + self.count([block]), [*path, block]))
        raise ValueError(f"no way leads from block {start} to block {goal}")

    def reaches(self, start: int, goal: int, *, without: int) -> bool:
        """Tell whether a way leads from one block to another that avoids a third."""
        seen, ahead = {without}, [start]
        while ahead:
            block = ahead.pop()
            if block not in seen:
                seen.add(block)
                ahead += self._ways[block]
        return goal in seen - {without}

    def dominates(self, block: int, other: int) -> bool:
        """Tell whether every way to ``other`` goes through ``block``."""
        return block == other or not self.reaches(ENTRY, other, without=block)

    def loops_around(self, block: int) -> list[int]:
        """Return the first blocks of the loops that a block is in, the outermost loop's first."""
        backward = [(head, latch) for latch in range(len(self.blocks)) for head in self._ways[latch] if head != EXIT]
        heads = {
            head
            for head, latch in backward
            if self.dominates(head, latch) and (head == block or self.reaches(block, latch, without=head))
        }
        return sorted(heads, key=lambda head: self.count(self.way(ENTRY, head)))


@dataclass(frozen=True)
class Walk:
    """The instructions of one thread on the cheapest way through a loop that reads, and through what is around it."""

    inner: int  #: per pass of the loop
    outer: int  #: per pass of the outermost loop around it, without the loop itself; 0 if it is the outermost
    once: int  #: outside of both
    values: float  #: that a pass of the loop reads

    def instructions(self, values: float, outer: float) -> float:
        """Return the instructions of a thread that makes ``outer`` passes and reads ``values`` values in each."""
        return self.once + outer * (self.outer + values / self.values * self.inner)


def walk(code: Code, function: str, size: int) -> Walk | None:
    """Find the loop in which a function reads the most values of ``size`` bytes; None if it reads none."""

    def values(block: int) -> float:
        reads = (one for one in code.blocks[block] if one.operation == "LDG" and one.function == function)
        return sum(one.width for one in reads) / size

    reading = max(range(len(code.blocks)), key=values)
    if not values(reading):
        return None
    loop = code.way(reading, reading)
    inner, outer, outermost = code.count(loop), 0, code.loops_around(reading)[0]
    whole = code.count(code.way(ENTRY, reading)) + code.count(code.way(reading, EXIT))
    if outermost not in loop:
        outer = code.count(code.way(reading, outermost)) + code.count(code.way(outermost, reading)) - inner
    return Walk(inner, outer, whole - outer - inner, sum(values(block) for block in loop))
