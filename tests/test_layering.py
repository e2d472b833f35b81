"""The walls of the tree: who may import whom, and what the C core may call.

The rows are those of the design: a module may import its own row and the rows
above it, and of the rest of the world only what its row names.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "multiplexer" / "datapath" / "core"

SOURCES: Mapping[str, Path] = MappingProxyType(
    {
        "pfinet_proto": ROOT / "proto" / "pfinet_proto",
        "multiplexer": ROOT / "multiplexer",
        "pfinet_client": ROOT / "pfinet_client",
    }
)

#: Modules of the standard library that wait, look at the world or change it.
IMPURE = frozenset(
    """
    asyncio ctypes fcntl getpass glob grp http io logging mmap multiprocessing os pathlib pickle
    platform pty pwd random resource sched secrets select selectors shutil signal socket
    socketserver sqlite3 ssl subprocess sys syslog tempfile termios threading time urllib uuid
    """.split()  # noqa: SIM905 - a list of so many would be one line each
)


@attrs.frozen
class Row:
    """*imports* are those of our packages, beside its own modules; *libraries* are others'."""

    modules: tuple[str, ...]
    imports: tuple[str, ...]
    libraries: tuple[str, ...]
    pure: bool


# The first row that has a module, or a package above it, is the module's.
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "protocol": Row(("pfinet_proto",), (), ("attrs", "construct"), pure=True),
        "model": Row(("multiplexer.model",), ("protocol",), ("attrs",), pure=True),
        "rules": Row(
            (
                "multiplexer.binding",
                "multiplexer.difference",
                "multiplexer.host_port",
                "multiplexer.ledger",
            ),
            ("protocol", "model"),
            ("attrs",),
            pure=True,
        ),
        "compilers": Row(
            (
                "multiplexer.config",
                "multiplexer.probes",
                "multiplexer.policy",
                "multiplexer.daemon.amend",
                "multiplexer.daemon.authorize",
                "multiplexer.daemon.filtering",
                "multiplexer.daemon.grants",
                "multiplexer.observe.counters",
                "multiplexer.observe.frames",
                "multiplexer.observe.metrics",
                "multiplexer.observe.trace",
                "multiplexer.cli.filter_sections",
                "multiplexer.cli.network_sections",
                "multiplexer.cli.page",
                "multiplexer.cli.phrases",
                "multiplexer.cli.rates",
                "multiplexer.cli.render",
                "multiplexer.cli.vif_sections",
            ),
            ("protocol", "model", "rules"),
            ("attrs", "defusedxml", "rich"),
            pure=True,
        ),
        "datapath": Row(
            ("multiplexer.datapath",),
            ("protocol", "model", "rules", "compilers"),
            ("attrs", "cffi"),
            pure=False,
        ),
        "client's decisions": Row(
            (
                "pfinet_client.configuration",
                "pfinet_client.errors",
                "pfinet_client.qemu",
                "pfinet_client.reattach",
                "pfinet_client.serving.protocol",
                "pfinet_client.stack.hosts",
            ),
            ("protocol",),
            ("attrs",),
            pure=True,
        ),
        "client's stack": Row(
            ("pfinet_client.stack",),
            ("protocol", "client's decisions", "client"),
            ("attrs", "cffi", "dns", "trio"),
            pure=False,
        ),
        "client": Row(
            ("pfinet_client",),
            ("protocol", "client's decisions"),
            ("attrs", "cffi", "rich", "shtab", "trio"),
            pure=False,
        ),
        "shell": Row(
            ("multiplexer",),
            ("protocol", "model", "rules", "compilers", "datapath"),
            ("attrs", "rich", "shtab", "trio"),
            pure=False,
        ),
    }
)


def modules() -> dict[str, Path]:
    """Return the file of every module of ours by its name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts))
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the full name of whatever *module* imports, at its top or within."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(imported_names(ast.parse(path.read_text()), package))


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{source}.{alias.name}"
                yield inside if inside in MODULES or alias.name == "_dp" else source


def row_of(module: str) -> str:
    for name, row in ROWS.items():
        if any(f"{module}.".startswith(f"{own}.") for own in row.modules):
            return name
    raise AssertionError(f"{module} is in no row")


def all_imports(module: str) -> set[str]:
    """Return what *module* imports, and what that imports, as far as it is ours."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports_of(waiting.pop()) - found:
            found.add(name)
            if name in MODULES:
                waiting.append(name)
    return found


def test_every_row_has_modules() -> None:
    """A row whose modules were renamed would guard nothing."""
    assert {row_of(module) for module in MODULES} == set(ROWS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_row_and_those_above_and_what_its_row_may_use(
    module: str,
) -> None:
    name = row_of(module)
    row = ROWS[name]
    wrong = []

    for imported in imports_of(module):
        top = imported.partition(".")[0]
        if top in SOURCES:
            if row_of(imported) not in (name, *row.imports):
                wrong.append(imported)
        elif top in sys.stdlib_module_names:
            if row.pure and top in IMPURE:
                wrong.append(imported)
        elif top not in row.libraries and not (top == "attr" and "attrs" in row.libraries):
            wrong.append(imported)

    assert wrong == []


def test_only_what_stands_for_c_imports_the_c_module() -> None:
    """The engine and the gate work with it; the others are values that both read out of it."""
    importers = {
        module
        for module in MODULES
        if any(imported.rpartition(".")[2] == "_dp" for imported in imports_of(module))
    }

    package = "multiplexer.datapath"
    assert importers == {
        f"{package}.{module}" for module in ("engine", "gate", "sightings", "verdicts")
    }


def test_only_the_layout_of_pages_imports_rich_of_the_pure_modules() -> None:
    pure = [module for module in MODULES if ROWS[row_of(module)].pure]

    importers = {module for module in pure if "rich" in {top(n) for n in imports_of(module)}}

    assert importers == {"multiplexer.cli.page"}


def test_one_door_for_xml_and_it_is_defused() -> None:
    """Whoever else imported a parser would meet what defusedxml refuses."""
    parsers = {"defusedxml", "xml", "lxml"}

    importers = {module for module in MODULES if parsers & {top(n) for n in imports_of(module)}}

    assert importers == {"multiplexer.policy.nwfilter.elements"}


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("role", ["multiplexer.daemon.broker", "multiplexer.daemon.engine"])
def test_the_processes_with_power_run_without_trio(role: str) -> None:
    """The broker is root and the engine holds packet sockets: both stay small."""
    assert "trio" not in {top(name) for name in all_imports(role)}


@pytest.mark.parametrize(
    ("package", "source", "imported"),
    [
        ("a.b", "import c.d, e", {"c.d", "e"}),
        ("a.b", "from c import d", {"c"}),
        ("multiplexer", "from multiplexer import model", {"multiplexer.model"}),
        ("multiplexer.policy", "from ..model import Vif", {"multiplexer.model"}),
        ("multiplexer.policy", "from . import ingress", {"multiplexer.policy.ingress"}),
        ("multiplexer.policy", "def f():\n from .. import model", {"multiplexer.model"}),
        ("multiplexer.datapath", "from . import _dp", {"multiplexer.datapath._dp"}),
    ],
)
def test_every_way_of_importing_is_seen(package: str, source: str, imported: set[str]) -> None:
    assert set(imported_names(ast.parse(source), package)) == imported


def test_the_c_core_calls_nothing_but_itself_and_mem_functions(tmp_path: Path) -> None:
    """No system call, no allocation, no clock: all of that is in io/."""
    objects = []
    for source in sorted(CORE.glob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        # A stack protector would call __stack_chk_fail, which is not the source's doing.
        flags = ["-std=c11", "-O2", "-fno-stack-protector", "-fno-pic"]
        command = ["gcc", *flags, "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True)

    undefined = symbols("--undefined-only", objects)
    defined = symbols("--defined-only", objects)

    assert objects
    assert undefined - defined <= {"memcpy", "memset", "memmove", "memcmp"}


def symbols(which: str, objects: list[Path]) -> set[str]:
    command = ["nm", "--format=just-symbols", which, *map(str, objects)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Each object is led by a line with its name and a colon.
    return {line for line in listing.split() if not line.endswith(":")}
