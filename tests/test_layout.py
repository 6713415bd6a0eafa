"""The rules of the house that no tool knows: who may import whom, and what lies where."""

from __future__ import annotations

import ast
import importlib
import inspect
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onlinestack import kernel

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "onlinestack"

ORDER = [
    ["kernel", "words"],
    ["murmur", "block"],
    ["atomic", "settings", "signals", "spare"],
    ["snapshot"],
    ["snapshots"],
    ["io"],
    ["auc"],
    ["metrics", "river_metrics"],
    ["task_metrics"],
    ["features"],
    ["linear"],
    ["tasks"],
    ["trees"],
    ["stack"],
    ["labels"],
    ["flow", "gate"],
    ["engine", "recipe"],
    ["late", "frames"],
    ["estimator", "assembly"],
    ["serving"],
    ["learner", "stacker"],
    ["compiling"],
    ["models"],
    ["figures"],
    ["report"],
    ["progressive"],
    ["vw"],
    ["intake"],
    ["consume"],
    ["completion", "config"],
    ["manual"],
    ["saved", "feeds"],
    ["opening", "inspection"],
    ["run", "consuming"],
    ["terminal", "writers"],
    ["shown"],
    ["cli"],
]
"""Modules and folders of the package from bottom to top; those of one line are strangers."""

STRANGERS = {("trees", "linear"), ("stack", "trees"), ("stack", "linear")}
"""Folders that meet only through namespaces and scores, never by import."""

MAY_PRINT = {"cli", "terminal"}

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "LICENSE",
    "README.md",
    "bench",
    "onlinestack",
    "pyproject.toml",
    "streams",
    "tests",
}

RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_bytes()) for name, path in MODULES.items()}


def imports(name: str) -> Iterator[tuple[str, int]]:
    """Yield every module of the package that a module imports, anywhere in it, and the line."""
    for node in ast.walk(TREES[name]):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [module if module in MODULES else node.module for module in inner]
        for module in found:
            if module.partition(".")[0] == "onlinestack":
                yield module, node.lineno


def part(module: str) -> str:
    """Return the module's own name in the order, or its folder's."""
    return module.split(".")[1]


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"onlinestack"}))
def test_imports_run_downwards(name: str) -> None:
    own = part(name)
    assert own in RANK, f"{MODULES[name]} has no place in ORDER; give it one"
    for module, line in imports(name):
        if module == "onlinestack":  # its version, and other plain names
            continue
        other = part(module)
        place = f"{MODULES[name]}:{line} imports {module}"
        assert other in RANK, f"{place}, which has no place in ORDER; give it one"
        if own != other:
            assert RANK[other] < RANK[own], f"{place}, which is not below it"
            assert (own, other) not in STRANGERS, f"{place}; they meet through scores only"


def test_imports_have_no_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"{' -> '.join((*way, name))} is a cycle"
        if name not in done:
            for module, _ in imports(name):
                if module != "onlinestack":
                    visit(module, (*way, name))
            done.add(name)

    for name in MODULES.keys() - {"onlinestack"}:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rules_of_every_module(name: str) -> None:
    for node in ast.walk(TREES[name]):
        place = f"{MODULES[name]}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place}: write absolute imports"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            door = name == "onlinestack.kernel"
            numba = any(each.split(".")[0] in {"numba", "llvmlite"} for each in names)
            assert door or not numba, f"{place}: only kernel.py may import numba"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            quiet = node.func.id != "print" or part(f"{name}.") in MAY_PRINT
            assert quiet, f"{place}: the library logs, it does not print"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{MODULES[name]} does not say what it is for"
    if MODULES[name].name == "__init__.py" and name != "onlinestack":
        return  # a folder: its modules are its names
    for public in module.__all__:
        getattr(module, public)
    assert len(set(module.__all__)) == len(module.__all__)


def test_every_twin_has_the_signature_of_its_kernel() -> None:
    for name in MODULES:
        importlib.import_module(name)
    for name, (compiled, twin) in kernel.KERNELS.items():
        own = inspect.signature(getattr(compiled, "py_func", compiled)).parameters
        plain = inspect.signature(twin).parameters
        if [each.kind for each in plain.values()] == [inspect.Parameter.VAR_POSITIONAL]:
            continue  # a function of the C library, whatever its operands are called
        assert list(plain) == list(own), f"{name} and its twin take other parameters"


def test_cached_kernels_are_keyed_by_all_that_they_are_made_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A constant of another module becomes part of a kernel that names it."""
    kernels = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(each).startswith("kernel(") for each in node.decorator_list)
    }
    assert "onlinestack.metrics" in kernels
    sources = kernels | {module for name in kernels for module, _ in imports(name)}
    copy = tmp_path_factory.mktemp("copy") / "onlinestack"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    stamp = kernel._stamp.__wrapped__
    before = stamp(copy)
    for name in sorted(sources - {"onlinestack"}):
        path = copy.parent / MODULES[name].relative_to(ROOT)
        text = path.read_bytes()
        path.write_bytes(text + b"#")
        assert stamp(copy) != before, f"kernels would outlive a change of {path.name}"
        path.write_bytes(text)


def test_top_level_holds_nothing_else() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed cannot be told from what is not")
    listing = subprocess.run(
        ["git", "ls-tree", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    assert listing.returncode == 0, listing.stderr
    assert set(listing.stdout.split()) <= TOP_LEVEL
