"""Read NVIDIA machine code as ``nvdisasm -c -g`` prints it: instructions, widths of accesses, and the shortest path."""

import ast
import heapq
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ENTRY, EXIT = -1, -2  # the nodes before the first block and after the last one
# Bytes that a load or a store moves, by the part of its name that gives the size; 4 if no part does.
SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16, "256": 32}


@dataclass(frozen=True)
class Instruction:
    """One instruction of one thread."""

    name: str  #: with all its parts: "LDG.E.128"
    guard: str  #: the predicate under which it runs, "" if always
    operands: str
    function: str  #: the source function, "" if unknown

    @property
    def operation(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]

    @property
    def width(self) -> int:
        """The bytes that a load or a store moves."""
        parts = (part.lstrip("US") for part in self.name.split("."))
        return next((SIZES[part] for part in parts if part in SIZES), 4)

    @property
    def registers(self) -> set[int]:
        """The registers it names; of wider operands the first, and of addresses two."""
        named = re.findall(r"\bR(\d+)(\.64)?", self.operands)
        return {int(number) + step for number, is_pair in named for step in range(2 if is_pair else 1)}

    @property
    def target(self) -> str:
        """The label of a jump, else "". Some long jumps are written as calls that do not return."""
        found = re.search(r"`\((\.L_x_\d+)\)", self.operands) if self.operation in ("BRA", "CALL") else None
        return found[1] if found else ""

    @property
    def ends_block(self) -> bool:
        """Whether the next instruction may be skipped."""
        return bool(self.target) or self.operation in ("EXIT", "RET")


def functions_by_line(files: Iterable[Path]) -> dict[tuple[str, int], str]:
    """Return the name of the function that each line of some files belongs to, by file name and line number."""
    return {
        (file.name, line): node.name
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


class Code:
    """The basic blocks of a kernel and the jumps between them. Function calls are assumed to return."""

    def __init__(self, text: str, functions: Mapping[tuple[str, int], str]) -> None:
        self.blocks: list[list[Instruction]] = []
        self._next: dict[int, set[int]] = defaultdict(set)
        starts = self._read(text, functions)
        for place, block in enumerate(self.blocks):
            last = block[-1]
            if last.target:
                self._next[place].add(starts[last.target])
            if last.operation == "EXIT":
                self._next[place].add(EXIT)
            # A jump may also have a predicate among its operands.
            is_certain = not last.guard and (not last.target or last.operands.startswith("`"))
            if not (last.ends_block and is_certain) and place + 1 < len(self.blocks):
                self._next[place].add(place + 1)
        self._next[ENTRY] = {0}

    def _read(self, text: str, functions: Mapping[tuple[str, int], str]) -> dict[str, int]:
        """Fill the blocks; return the block that each label names."""
        starts: dict[str, int] = {}
        function, is_new = "", True
        for line in text.splitlines():
            # A comment above an instruction names the source line it was compiled from.
            if found := re.search(r'//## File "([^"]+)", line (\d+)', line):
                function = functions.get((Path(found[1]).name, int(found[2])), "")
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
        """Return the loads or stores of the given functions, or of all functions."""
        found = (one for block in self.blocks for one in block if one.operation in operations)
        return [one for one in found if not functions or one.function in functions]

    def count(self, blocks: Iterable[int]) -> int:
        """Return the number of instructions in some blocks."""
        return sum(len(self.blocks[block]) for block in blocks if block >= 0)

    def shortest_paths(self, start: int) -> dict[int, list[int]]:
        """Return the shortest path from ``start`` to each block, without ``start``; its own is its shortest loop."""
        queue = sorted((self.count([block]), [block]) for block in self._next[start])
        found: dict[int, list[int]] = {}
        while queue:
            cost, path = heapq.heappop(queue)
            if path[-1] not in found:
                found[path[-1]] = path
                for block in self._next[path[-1]]:
                    heapq.heappush(queue, (cost + self.count([block]), [*path, block]))
        return found

    def instructions(self, reader: str, size: int, *, passes: float, values: float) -> float | None:
        """Return the instructions of one thread on the shortest path through the loop that reads the most values.

        The shortest path is the usual one: it skips the code for cut-off tiles and padding. The path goes ``passes``
        times through the outermost loop, and in each of these passes through the inner loop until ``values`` values of
        ``size`` bytes are read. Returns ``None`` if the source function ``reader`` reads nothing in a loop.
        """

        def values_in(block: int) -> float:
            reads = (one for one in self.blocks[block] if one.operation == "LDG" and one.function == reader)
            return sum(one.width for one in reads) / size

        reading = max(range(len(self.blocks)), key=values_in)
        onward = self.shortest_paths(reading)
        if not values_in(reading) or reading not in onward:
            return None
        before, loop = self.shortest_paths(ENTRY)[reading], onward[reading]
        inner, outer = self.count(loop), 0
        head = next(block for block in before if block in onward)  # the first block of the outermost loop
        if head not in loop:
            outer = self.count(onward[head]) + self.count(self.shortest_paths(head)[reading]) - inner
        once = self.count(before) + self.count(onward[EXIT]) - outer - inner
        return once + passes * (outer + values / sum(map(values_in, loop)) * inner)

    def loads_in_flight(self, reader: str) -> int:
        """Return how many loads of one thread wait at most, where the function ``reader`` reads the most values.

        A load waits until an instruction uses its value, or its register for something else.
        """
        block = max(
            self.blocks, key=lambda block: sum(one.operation == "LDG" and one.function == reader for one in block)
        )
        waiting: list[set[int]] = []
        most = 0
        for instruction in block:
            used = instruction.registers
            waiting = [registers for registers in waiting if not registers & used]
            if instruction.operation == "LDG" and instruction.function == reader:
                first = int(instruction.operands.removeprefix("R").partition(",")[0])
                waiting.append(set(range(first, first + max(1, instruction.width // 4))))
                most = max(most, len(waiting))
        return most
