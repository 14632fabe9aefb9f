"""The house rules that a reader of one module cannot see (SPEC "Layers"), enforced on the source itself.

Imports point only downwards; nothing durable happens outside ``ports.py``; heavy libraries are imported where they
are used; nothing is ever unpickled or evaluated. Every rule is also run against a sample that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "dreamlake"

RANKS = {
    **dict.fromkeys(["bulk", "ports", "model", "errors", "values", "config", "inside", "location", "threads"], 0),
    **dict.fromkeys(["progress", "rawio", "services", "texts"], 0),
    **dict.fromkeys(["blobs", "catalog", "journal"], 1),
    "content": 2,
    "operations": 3,
    **dict.fromkeys(["lake", "upkeep", "checkpoints", "home", "folder_home", "folder_store"], 4),
    **dict.fromkeys(["remote", "remote_home", "capabilities", "doctor", "profiles"], 4),
    **dict.fromkeys(["finding", "records", "showing"], 4),
    **dict.fromkeys(["syncing", "spool"], 4),
    **dict.fromkeys(["session", "files", "parameters", "logs", "tracks", "savers", "legacy"], 5),
    **dict.fromkeys(["background", "capture", "enduring", "imports", "lineage"], 5),
    **dict.fromkeys(["cli", "integrations", "web", "__main__"], 6),
    "": 7,  # dreamlake/__init__.py: names what users import, lazily
}
_HEAVY = """
    numpy torch boto3 botocore pymongo tqdm blake3 zstandard sqlite3 h5py safetensors matplotlib pandas fsspec mlflow
    lightning pytorch_lightning transformers keras torchvision IPython asyncio multiprocessing
"""
HEAVY = frozenset(_HEAVY.split())
_OS_CALLS = """
    rename renames replace link symlink unlink remove removedirs rmdir mkdir makedirs fsync fdatasync sync truncate
    ftruncate write pwrite writev sendfile copy_file_range chmod fchmod chown utime mkfifo mknod setxattr removexattr
"""
OS_CALLS = frozenset(_OS_CALLS.split())
PATH_METHODS = frozenset(
    ["write_text", "write_bytes", "rename", "unlink", "mkdir", "rmdir", "touch", "hardlink_to", "symlink_to", "chmod"]
)
WRITE_FLAGS = frozenset(["O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC", "O_EXCL"])
DURABLE_MODULES = frozenset(["shutil", "tempfile", "mmap"])
FORBIDDEN_MODULES = frozenset(["pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"])
FORBIDDEN_CALLS = frozenset(["eval", "exec", "compile", "__import__"])

# file -> what it may do itself. ``ports.py`` is the one home of durable calls. ``checkpoint.py``: Python 3.10 cannot
# serialize a database in memory, so it is built in a temporary file outside the lake and read back. ``savers.py``:
# large tensors spill into an anonymous temporary file that nobody can name and that ends with the call;
# ``background.py`` and ``fsspec_writing.py``: so does a large stream that waits for its turn, or for its end.
# ``integrations``: what a library can write to or read from a named file only, in a temporary folder that ends with
# the call. ``tars.py``: a member of an archive, so that it can be read twice.
DURABLE_EXCEPTIONS = {
    "ports.py": ("",),
    "catalog/checkpoint.py": ("import tempfile", "os.unlink"),
    "savers.py": ("import tempfile",),
    "background.py": ("import tempfile",),
    "integrations/fsspec_writing.py": ("import tempfile",),
    "integrations/torch.py": ("import tempfile",),
    "operations/importing/tars.py": ("import tempfile",),
    "integrations/lightning.py": ("import tempfile",),
    "integrations/keras.py": ("import tempfile",),
    "integrations/transformers.py": ("import tempfile",),
}


# ``load_torch(unsafe=True)`` is the one place where a user may ask for it.
CODE_EXCEPTIONS = {"integrations/torch.py": ("torch.load() may run what it reads",)}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def dotted(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def group(module: str) -> str:
    """``dreamlake.catalog.fold`` -> ``catalog``; the package itself -> ""."""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.rsplit(".", node.level - 1)[0].split("."), *filter(None, [base])])
            if base == "dreamlake":
                yield from ((node.lineno, f"dreamlake.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def rank_violations(source: str, module: str, package: str) -> list[str]:
    found = []
    home = group(module)
    for line, name in imports(ast.parse(source), package):
        if name.split(".")[0] != "dreamlake" or module == "dreamlake":
            continue
        target = group(name)
        if target.startswith("__") or target == "":
            continue  # dreamlake.__version__
        if target not in RANKS:
            found.append(f"{module}:{line} imports {name}, which has no rank")
        elif RANKS[target] > RANKS[home]:
            found.append(f"{module}:{line} (rank {RANKS[home]}) imports {name} (rank {RANKS[target]})")
        elif RANKS[target] == RANKS[home] == 1 and target != home:
            found.append(f"{module}:{line} imports {name}: the seams do not know each other")
    return found


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run on import: not inside functions, not under TYPE_CHECKING."""
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack.extend(node.orelse)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef, ast.For, ast.While)):
            for field in ("body", "orelse", "finalbody"):
                stack.extend(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                stack.extend(handler.body)


def heavy_violations(source: str) -> list[str]:
    found = []
    for node in top_level(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        found += [f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in HEAVY]
    return found


def _constant(call: ast.Call, position: int, keyword: str) -> object:
    nodes = [k.value for k in call.keywords if k.arg == keyword] or call.args[position : position + 1]
    if not nodes:
        return None
    return nodes[0].value if isinstance(nodes[0], ast.Constant) else ...


def durable_violations(source: str) -> list[str]:
    """Calls that change a file system. Receivers named ``fs`` or ``_fs`` are the port itself."""
    found = []
    tree = ast.parse(source)
    for line, name in imports(tree, "x"):
        if name.split(".")[0] in DURABLE_MODULES:
            found.append(f"line {line}: import {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            risky = [a.name for a in node.names if a.name in OS_CALLS or a.name == "open"]
            found += [f"line {node.lineno}: from os import {name}" for name in risky]
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            mode = _constant(node, 1, "mode")
            if mode is ... or (isinstance(mode, str) and set(mode) & set("wax+")):
                found.append(f"line {node.lineno}: open(..., {mode!r})")
        if not isinstance(function, ast.Attribute):
            continue
        owner = function.value.id if isinstance(function.value, ast.Name) else None
        if owner == "os" and function.attr in OS_CALLS:
            found.append(f"line {node.lineno}: os.{function.attr}")
        elif owner == "os" and function.attr == "open" and ast.unparse(node.args[0]) != "os.devnull":
            if {n.attr for a in node.args for n in ast.walk(a) if isinstance(n, ast.Attribute)} & WRITE_FLAGS:
                found.append(f"line {node.lineno}: os.open for writing")
        elif owner == "io" and function.attr in ("open", "FileIO"):
            found.append(f"line {node.lineno}: io.{function.attr}")
        elif function.attr in PATH_METHODS and not _is_port(function.value):
            found.append(f"line {node.lineno}: .{function.attr}(...)")
    return found


def _is_port(receiver: ast.expr) -> bool:
    """``fs.rename``, ``self._fs.rename``, ``ports.fs.rename``, ``self._catalog.touch``: a seam, not the disk."""
    name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
    return name.lstrip("_") in ("fs", "catalog")


def code_violations(source: str) -> list[str]:
    """Anything that could turn stored bytes into running code."""
    found = []
    tree = ast.parse(source)
    for line, name in imports(tree, "x"):
        if name.split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"line {line}: import {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {function.id}()")
            if isinstance(function, ast.Attribute) and (
                _loads(function, node)
                or any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is not False for k in node.keywords)
            ):
                found.append(f"line {node.lineno}: {ast.unparse(function)}() may run what it reads")
    return found


def _loads(function: ast.Attribute, call: ast.Call) -> bool:
    """``torch.load`` and ``yaml.load``, unless only weights are read."""
    safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in call.keywords)
    return function.attr == "load" and getattr(function.value, "id", "") in ("torch", "yaml") and not safe


def package_of(file: Path) -> str:
    return dotted(file) if file.name == "__init__.py" else dotted(file).rpartition(".")[0]


ALL = [pytest.param(file, id=relative(file)) for file in modules()]


def test_the_walk_finds_the_package():
    names = {relative(file) for file in modules()}
    assert {"ports.py", "catalog/folder.py", "blobs/folder.py", "operations/commit.py", "folder_store.py"} <= names


@pytest.mark.parametrize("file", ALL)
def test_every_module_has_a_rank(file):
    assert group(dotted(file)) in RANKS


@pytest.mark.parametrize("file", ALL)
def test_imports_point_downwards(file):
    assert rank_violations(file.read_text("utf-8"), dotted(file), package_of(file)) == []


@pytest.mark.parametrize("file", ALL)
def test_heavy_libraries_are_imported_where_they_are_used(file):
    assert heavy_violations(file.read_text("utf-8")) == []


@pytest.mark.parametrize("file", ALL)
def test_nothing_durable_happens_outside_the_ports(file):
    allowed = DURABLE_EXCEPTIONS.get(relative(file), ())
    found = durable_violations(file.read_text("utf-8"))
    assert [v for v in found if not any(v.endswith(a) for a in allowed)] == []
    assert [a for a in allowed if not any(v.endswith(a) for v in found)] == [], "an exception that nobody needs"


@pytest.mark.parametrize("file", ALL)
def test_nothing_is_unpickled_or_evaluated(file):
    allowed = CODE_EXCEPTIONS.get(relative(file), ())
    found = code_violations(file.read_text("utf-8"))
    assert [v for v in found if not any(v.endswith(a) for a in allowed)] == []
    assert [a for a in allowed if not any(v.endswith(a) for v in found)] == [], "an exception that nobody needs"


def test_no_import_cycles():
    graph = {dotted(f): set() for f in modules()}
    for file in modules():
        for node in top_level(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for _, name in imports(node, package_of(file)):
                    for target in (name, *(f"{name}.{a.name}" for a in node.names)):
                        if target in graph and target != dotted(file):
                            graph[dotted(file)].add(target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path, module])}"
        if module not in done:
            for target in graph[module] - set(_packages(module)):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def _packages(module: str) -> Iterator[str]:
    """A module may import from the packages it lies in: their ``__init__`` holds the seam itself."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


# ---- every rule notices what it forbids ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from dreamlake.lake import Lake", "dreamlake.operations.upload"),
        ("def f():\n    from dreamlake import session", "dreamlake.lake"),
        ("import dreamlake.content.frame", "dreamlake.blobs.folder"),
        ("from dreamlake.catalog import record", "dreamlake.blobs.folder"),
        ("from ..files import Files", "dreamlake.content.frame"),
        ("from dreamlake.unheard_of import x", "dreamlake.lake"),
    ],
)
def test_an_upward_import_is_noticed(source, module):
    assert rank_violations(source, module, module.rpartition(".")[0])


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np",
        "try:\n    import torch\nexcept ImportError:\n    pass",
        "class A:\n    from tqdm import tqdm",
    ],
)
def test_a_heavy_import_is_noticed(source):
    assert heavy_violations(source)


@pytest.mark.parametrize(
    "source",
    ["def f():\n    import numpy", "if TYPE_CHECKING:\n    import numpy as np", "from dreamlake.content import codecs"],
)
def test_a_lazy_import_is_allowed(source):
    assert heavy_violations(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "os.rename(a, b)",
        "os.fsync(fd)",
        "os.makedirs(p, exist_ok=True)",
        "os.open(p, os.O_WRONLY | os.O_CREAT)",
        "open(p, 'w')",
        "open(p, mode='ab')",
        "open(p, chosen)",
        "io.open(p, 'w')",
        "import shutil",
        "from shutil import copyfile",
        "from os import replace",
        "Path(p).write_text('x')",
        "path.unlink()",
        "(folder / name).mkdir()",
    ],
)
def test_a_durable_call_is_noticed(source):
    assert durable_violations(source)


@pytest.mark.parametrize(
    "source",
    [
        "self._fs.rename(a, b)",
        "ports.fs.unlink(p)",
        "open(p, 'rb')",
        "open(p)",
        "os.open(p, os.O_RDONLY | os.O_CLOEXEC)",
        "os.open(os.devnull, os.O_WRONLY)",
        "text.replace('a', 'b')",
        "value._replace(x=1)",
        "self._catalog.touch(claim)",
    ],
)
def test_a_harmless_call_is_allowed(source):
    assert durable_violations(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "eval(text)",
        "exec(code)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_code_from_data_is_noticed(source):
    assert code_violations(source)
