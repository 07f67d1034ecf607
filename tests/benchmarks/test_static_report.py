"""Machine code is read correctly; no kernel spills, uses local memory or loses a wide access."""

import json

import pytest

from tests.helpers.programs import run_python
from tests.helpers.sharing import made_once

pytest.importorskip("triton", reason="kernels are compiled by Triton")

from benchmarks import static_report, tables
from benchmarks.machine_code import ENTRY, EXIT, Code, Instruction, functions_by_line

SOURCE = """\
def kernel():
    prologue
    while rows:
        while channels:
            read()


def read():
    load
"""
HERE, READ = '\t//## File "/any/where/kernel.py", line 2', '\t//## File "/any/where/kernel.py", line 9'
MACHINE_CODE = f"""
{HERE}
        /*0000*/                   S2R R0, SR_CTAID.X ;
        /*0010*/               @P0 EXIT ;
        /*0020*/               @P1 BRA `(.L_x_0) ;
        /*0030*/                   CALL.REL.NOINC `($__internal_0_$__division) ;
        /*0040*/                   NOP ;
.L_x_0:
        /*0050*/                   ISETP.GE.AND P0, PT, R0, R1, PT ;
.L_x_5:
        /*0054*/                   FADD R4, R4, R5 ;
        /*0058*/               @P5 BRA `(.L_x_5) ;
        /*0060*/                   BRA.U !UP0, `(.L_x_2) ;
.L_x_1:
        /*0070*/                   FADD R4, R4, R5 ;
{READ}
        /*0080*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0090*/               @P2 LDG.E.64 R8, desc[UR4][R2.64+0x10] ;
{HERE}
        /*00a0*/                   FADD R4, R4, R8 ;
        /*00b0*/              @!P3 BRA `(.L_x_1) ;
        /*00c0*/                   STG.E.U16 desc[UR4][R2.64], R4 ;
.L_x_2:
        /*00d0*/                   IADD3 R0, R0, 0x1, RZ ;
        /*00e0*/               @P4 CALL.REL.NOINC `(.L_x_3) ;
        /*00f0*/                   BRA `(.L_x_0) ;
.L_x_3:
        /*0100*/                   STL [R1], R4 ;
        /*0110*/                   EXIT ;
.L_x_4:
        /*0120*/                   BRA `(.L_x_4);
"""


@pytest.fixture
def code(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text(SOURCE)
    return Code(MACHINE_CODE, functions_by_line([source]))


def test_machine_code_falls_into_blocks(code):
    assert [len(block) for block in code.blocks] == [2, 1, 2, 1, 2, 1, 5, 1, 2, 1, 2, 1]


def test_paths_have_the_fewest_instructions(code):
    assert code.shortest_paths(ENTRY)[6] == [0, 1, 3, 4, 5, 6], "the call on the longer path is skipped"
    onward = code.shortest_paths(6)
    assert onward[EXIT] == [7, 8, 10, EXIT]
    assert onward[6] == [6], "the shortest loop"
    assert 0 not in code.shortest_paths(10)


def test_instructions_are_counted_by_the_passes_of_both_loops(code):
    def count(passes, values, reader="read"):
        return code.instructions(reader, 4, passes=passes, values=values)

    assert count(0, 0) == 4, "outside of the loops: 2 + 1 and 2, less the last jump back"
    assert count(1, 0) == 4 + 8, "around the inner loop: 1 + 2 + 1 before it and as many after it; block 4 is separate"
    assert count(1, 6) == 4 + 8 + 5, "one pass of the inner loop reads six values"
    assert count(2, 12) == 4 + 2 * (8 + 2 * 5)
    assert count(1, 6, "kernel") is None, "it reads nothing"


def test_accesses_have_widths_and_functions(code):
    assert [one.width for one in code.accesses("LDG", functions=("read",))] == [16, 8]
    assert [one.width for one in code.accesses("STG", "LDG", functions=("kernel",))] == [2]
    assert [one.name for one in code.accesses("LDL", "STL")] == ["STL"]


def test_loads_wait_until_their_values_are_used(code):
    assert code.loads_in_flight("read") == 2
    assert code.loads_in_flight("kernel") == 0
    source = "\n".join(f"        /*{n:04x}*/ {text} ;" for n, text in enumerate((
        "LDG.E R4, desc[UR4][R2.64]", "LDG.E.64 R6, desc[UR4][R2.64+0x8]", "FADD R7, R7, R7",
        "LDG.E R8, desc[UR4][R2.64+0x10]", "FADD R0, R4, R8", "EXIT",
    )))  # fmt: skip
    assert Code(source, {}).loads_in_flight("") == 2, "the second of a pair of registers is used before the third load"


@pytest.mark.parametrize(
    ("name", "width"), [("LDG.E", 4), ("LDG.E.U8.CONSTANT", 1), ("LDG.E.LTC128B.64", 8), ("STG.E.STRONG.SYS", 4)]
)
def test_widths_are_parts_of_names(name, width):
    assert Instruction(name, "", "", "").width == width


@pytest.mark.parametrize(("channels", "channels_last"), static_report.LAYOUTS)
@pytest.mark.parametrize("kernel", static_report.KERNELS)
def test_launches_are_recorded_as_they_are(kernel, channels, channels_last):
    from supervised_st._sampler import launches

    launch = static_report.launch_of(static_report.Variant(kernel, channels=channels, channels_last=channels_last))
    table = launches.FALLBACK_LAUNCHES if kernel == "image_search" else launches.LAUNCHES
    expected = table[kernel, channels_last]
    assert launch.arguments["BUILD"].block == expected.block
    assert launches.compile_options(expected).items() <= launch.arguments.items()
    assert launch.arguments["out" if kernel == "forward" else "grad"].numel() == 64 * channels * 256 * 256


def test_reads_and_writes_are_looked_for_in_functions_that_exist():
    from supervised_st._sampler.kernels import forward, image_gradient, image_search, theta_gradient

    files = forward, image_gradient, image_search, theta_gradient
    named = {name for used in static_report.ACCESSES.values() for _, functions in used.values() for name in functions}
    assert not [name for name in named if not any(hasattr(file, name) for file in files)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the kernels in another process: those of this one run in the interpreter."""

    def make(folder):
        command = "benchmarks/static_report.py", "--check", "--json", folder / "report.json"
        done = run_python(*command, TRITON_INTERPRET="0")
        assert done.returncode == 0, done.stderr

    return json.loads((made_once(tmp_path_factory, "static_report", make) / "report.json").read_text())


def test_every_kernel_compiles_for_every_architecture_format_and_layout(compiled):
    rows = {
        (row["kernel"], row["architecture"], row["dtype"], row["channels"], row["channels_last"])
        for row in compiled["rows"]
        if row["is_usual"]
    }
    for kernel in static_report.KERNELS:
        without = {"image_gradient": {"uint8", "float64"}, "image_search": {"uint8"}}
        formats = set(static_report.DTYPES) - without.get(kernel, set())
        of_architecture = {80: {"float32", "float16"}, 90: formats, 100: {"float32", "float16"}}
        for architecture, dtypes in of_architecture.items():
            wanted = {(kernel, architecture, dtype, *layout) for dtype in dtypes for layout in ((3, False), (64, True))}
            assert wanted <= rows


def test_machine_code_has_no_problems(compiled):
    for row in compiled["rows"]:
        assert not static_report.problems(row)
        assert 0 < row["registers"] <= 255
        if row["channels_last"] and row["channels"] % 16 == 0 and row["dtype"] != "uint8":
            assert set(row["access_bytes"].values()) <= {16}
        if row["access_bytes"]:
            # Each value is read, blended and written: that takes some instructions, but not thousands.
            assert 10 < row["instructions_per_element"] < 2000


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"stack_bytes": 40}, "40 bytes of stack"),
        ({"local_accesses": 2}, "2 accesses to local memory"),
        ({"access_bytes": {"image": 16, "out": 4}}, "accesses to out of 4 bytes, not 16"),
        ({"access_bytes": {"image": 0, "out": 16}}, "accesses to image of 0 bytes, not 16"),
        ({"instructions_per_element": None}, "no loop that reads"),
    ],
)
def test_problems_are_named(compiled, flaw, message):
    name = "forward, sm_90, float32, 64 channels, channels_last, bilinear, zeros"
    assert problems_of(compiled, name, flaw) == [f"{name}: {message}"]


@pytest.mark.parametrize(
    ("kernel", "flaw", "message"),
    [
        ("forward", {"instructions_per_element": 36.1}, "36.1 instructions per element, not 36"),
        ("image_gradient", {"registers": 101}, "101 registers, not 100"),
        ("forward", {"loads_in_flight": 23}, "23 loads in flight, not 24"),
        ("forward", {"stack_bytes": 8}, "8 bytes of stack"),
    ],
)
def test_budgets_are_held(compiled, kernel, flaw, message):
    name = f"{kernel}, sm_90, float32, 3 channels, contiguous, bilinear, zeros"
    assert problems_of(compiled, name, flaw) == [f"{name}: {message}"]


def problems_of(compiled, name, flaw):
    row = next(row for row in compiled["rows"] if row["name"] == name)
    return static_report.problems(row | flaw)


def test_the_interpreters_kernels_are_refused():
    done = run_python("benchmarks/static_report.py", "--check", TRITON_INTERPRET="1")
    assert done.returncode == 1
    assert "TRITON_INTERPRET is set" in done.stderr


def test_the_published_report_is_of_these_kernels(compiled):
    published = tables.newest("static")
    compilers = [{name: of["versions"][name] for name in ("triton", "ptxas")} for of in (published, compiled)]
    if compilers[0] != compilers[1]:
        pytest.skip(f"it was made with {compilers[0]}")
    found, expected = ({row["name"]: row for row in report["rows"]} for report in (compiled, published))
    assert list(found) == list(expected)
    for name, row in found.items():
        counted = row["instructions_per_element"]
        assert counted == (counted and pytest.approx(expected[name]["instructions_per_element"], rel=0.1)), name


def test_the_table_has_the_usual_variants(compiled):
    table = tables.static_table(compiled)
    assert "| forward | float32 | 64, channels_last |" in table
    assert "theta reduction" not in table
    assert table.count("\n| ") == 1 + sum(
        row["is_usual"] and row["architecture"] == 90 and bool(row["access_bytes"]) for row in compiled["rows"]
    )
