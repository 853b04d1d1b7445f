"""Which source files a module can reach by its imports, and one hash of them all; nothing of it is imported for that.

Knows Python's import statements, the lazy catalogues of this package (`__init__.pyi`) and tables of module names.
Knows no cell and no experiment.

A module reaches: what its import statements name, anywhere in it; from a lazy catalogue the names that it uses, or all
of them where the catalogue itself is handed on; programs in its strings (they run in another process); and, where it
imports by name, every module that one of its strings names. Followed in this package and in the module's own.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = "steersman"


@dataclass(frozen=True)
class _Want:
    """A module, perhaps a name of it, and the attributes of that name that are used; None: it is handed on whole."""

    module: str
    name: str = ""
    used: frozenset[str] | None = frozenset()


def source_hash(module: str) -> str:
    """Hash of everything that `module` can reach. Comments, docstrings and layout do not count.

    Raises:
        ModuleNotFoundError: there is no source of `module`.
    """
    total = hashlib.sha256()
    for name, path in sorted(reached(module).items()):
        total.update(f"{name} {_Source.read(path).digest}\n".encode())
    return total.hexdigest()


def reached(module: str) -> dict[str, Path]:
    """Every module that `module` can reach, itself among them, with its file.

    Raises:
        ModuleNotFoundError: there is no source of `module`.
    """
    places = _Places(module)
    if places.file(module) is None:
        raise ModuleNotFoundError(f"no source of {module!r}", name=module)
    found: dict[str, Path] = {}
    seen: set[_Want] = set()
    waiting = [_Want(module)]
    while waiting:
        want = waiting.pop()
        if want in seen:
            continue
        seen.add(want)
        for name in places.modules(want):
            path = places.file(name)
            if path is not None and name not in found:
                found[name] = path
                waiting += _Source.read(path).wants(name, path)
        waiting += places.offered(want)
    return found


class _Places:
    """Where modules are, of this package and of another one."""

    def __init__(self, module: str) -> None:
        self._roots = {top: _root(top) for top in (_HERE, module.partition(".")[0])}

    def file(self, module: str) -> Path | None:
        """The source file of a module, if it is one of ours."""
        top, _, rest = module.partition(".")
        root = self._roots.get(top)
        if root is None:
            return None
        if not rest:
            return root
        place = root.parent.joinpath(*rest.split("."))
        return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)

    def modules(self, want: _Want) -> Iterator[str]:
        """What Python imports for it: the module, the packages that it is in, and the name if that is a module."""
        parts = want.module.split(".")
        yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        if want.name:
            yield f"{want.module}.{want.name}"

    def offered(self, want: _Want) -> Iterator[_Want]:
        """What a lazy catalogue imports when the wanted names are used."""
        package, names = want.module, frozenset([want.name]) if want.name else want.used
        if want.name and self.file(f"{want.module}.{want.name}") is not None:
            package, names = f"{want.module}.{want.name}", want.used
        path = self.file(package)
        stub = path.with_suffix(".pyi") if path is not None and path.name == "__init__.py" else None
        if stub is None or not stub.is_file():
            return
        for offer in _Source.read(stub).wants(package, stub):
            if names is None or offer.name in names or "*" in names:
                yield _Want(offer.module, offer.name, want.used if want.name == offer.name else None)


@cache
def _root(top: str) -> Path | None:
    """The file of a top-level module or package."""
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if loaded is None:
        spec = importlib.util.find_spec(top)
        loaded = spec.origin if spec is not None else None
    return Path(loaded) if loaded and loaded.endswith(".py") else None


class _Source:
    """One file, parsed once for as long as it does not change."""

    _READ: dict[tuple[Path, int, int], _Source] = {}  # noqa: RUF012 (a cache of the class)

    def __init__(self, text: str) -> None:
        self._tree = ast.parse(text)
        self._wants: dict[str, list[_Want]] = {}
        self.digest = hashlib.sha256(ast.dump(_bare(self._tree)).encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> _Source:
        stat = path.stat()
        key = path, stat.st_mtime_ns, stat.st_size
        if key not in cls._READ:
            cls._READ[key] = cls(path.read_text("utf-8"))
        return cls._READ[key]

    def wants(self, module: str, path: Path) -> list[_Want]:
        """What the file wants when it is `module`."""
        if module not in self._wants:
            package = module if path.stem == "__init__" else module.rpartition(".")[0]
            self._wants[module] = list(_wants(self._tree, package))
        return self._wants[module]


def _bare(tree: ast.Module) -> ast.Module:
    """The tree less its docstrings."""
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if ast.get_docstring(node):
                del node.body[0]
    return tree


def _wants(tree: ast.Module, package: str) -> Iterator[_Want]:
    nodes = list(ast.walk(tree))
    used = _attributes(nodes)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield _Want(alias.name, "", used.get(alias.asname) if alias.asname else None)
                yield _Want(top, "", frozenset() if alias.asname else used.get(top))
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            for alias in node.names:
                yield _Want(module, alias.name, used.get(alias.asname or alias.name))
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for text in texts:
        if f"{_HERE}." in text and "import" in text:
            yield from _program(text)
    if any(isinstance(n, ast.Name | ast.Attribute) and _called(n) in ("import_module", "__import__") for n in nodes):
        for text in texts:
            if text.startswith(".") and all(part.isidentifier() for part in text[1:].split(".")):
                yield _Want(f"{package}{text}")
            elif text.startswith(f"{_HERE}."):
                yield _Want(text)


def _called(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _attributes(nodes: Iterable[ast.AST]) -> dict[str, frozenset[str]]:
    """Name -> attributes of it that are used; a name that is used otherwise is left out."""
    found: dict[str, set[str]] = {}
    plain: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
            plain[node.value.id] = plain.get(node.value.id, 0) - 1
        elif isinstance(node, ast.Name):
            plain[node.id] = plain.get(node.id, 0) + 1
    return {name: frozenset(attributes) for name, attributes in found.items() if plain.get(name, 0) == 0}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])


def _program(text: str) -> Iterator[_Want]:
    """What a program in a string imports."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    yield from _wants(tree, "")
