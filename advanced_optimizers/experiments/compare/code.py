"""A user's own code: read as text, identified by a hash of the text, and loaded from it in any process.

Processes of a cluster get the text and not a path, so what they train is what the hash says.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from joblib.externals.loky.backend import reduction

from advanced_optimizers._checks import unknown_name

_DIGITS = 8  # of the hash, in a name


class CompareError(ValueError):
    """A comparison cannot begin or go on; the message is one sentence with the object's name and the way out."""


@dataclass(frozen=True)
class Code:
    """An object in a user's code.

    Attributes:
        name: The object's name.
        texts: The source text by file name: first the object's file, then its neighbors that it imports.
        payload: The object itself, pickled, if it is not in a file of its own, as in a notebook.
        folder: The folder of the files, if there is one.
    """

    name: str
    texts: Mapping[str, str]
    payload: bytes | None = field(default=None, repr=False)
    folder: Path | None = field(default=None, compare=False)

    @property
    def file(self) -> str:
        """The name of the object's file."""
        return next(iter(self.texts))

    @property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the text, which is the file's if it imports no neighbors."""
        (_, text), *others = self.texts.items()
        digest = hashlib.sha256(text.encode())
        for name, other in others:
            digest.update(f"\0{name}\0{other}".encode())
        return digest.hexdigest()[:_DIGITS]

    @property
    def key(self) -> str:
        """What a configuration calls it, such as ``user:Mine@3f2a91c0``."""
        return f"user:{self.name}@{self.digest}"

    @property
    def paths(self) -> list[Path]:
        """Where the files are."""
        return [] if self.folder is None else [self.folder / file for file in self.texts]

    def load(self) -> Any:
        """The object; the text is executed once per process.

        Raises:
            CompareError: The text cannot be executed, or has no such object.
        """
        if self.payload is not None:
            return pickle.loads(self.payload)
        module = self._module()
        if not hasattr(module, self.name):
            own = list(_defined(module))
            near = str(unknown_name("object", self.name, own or ["nothing"])).partition("; ")[2].rstrip("?")
            raise CompareError(
                f"{self.file} has no {self.name}; {near}? It defines: {', '.join(own) or 'no class and no function'}"
            )
        return getattr(module, self.name)

    def setting(self, name: str) -> Any:
        """An attribute such as ``SEARCH_SPACE``, of the object or of its file; None if there is none."""
        own = getattr(self.load(), name, None)
        return getattr(self._module(), name, None) if own is None and self.payload is None else own

    def _module(self) -> ModuleType:
        name = f"{Path(self.file).stem}_{self.digest}"
        if name not in sys.modules:
            _HELPERS.add(dict(list(self.texts.items())[1:]))
            module = ModuleType(name)
            sys.modules[name] = module  # where dataclasses look for their own module
            try:
                _execute(module, self.file, self.texts[self.file])
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def read_code(place: str, name: str) -> Code:
    """The object ``name`` of a Python file, with the neighbors in its folder that the file imports.

    Raises:
        CompareError: There is no such file, or it is not text.
    """
    path = Path(place).expanduser()
    if not path.is_file():
        raise CompareError(
            f"there is no file {place}: give the path of a Python file and a name in it, as mine.py:Mine"
        )
    texts: dict[str, str] = {}
    _collect(path, path.parent, texts)
    return Code(name, texts, folder=path.parent)


def code_of(thing: Callable[..., Any]) -> Code:
    """A class or function as code: that of its file if the file is a module of no package, else pickled.

    Raises:
        CompareError: Its source cannot be read.
    """
    name, module = getattr(thing, "__qualname__", repr(thing)), sys.modules.get(getattr(thing, "__module__", ""))
    try:
        if module is not None and module.__name__ != "__main__" and not module.__package__ and "." not in name:
            return read_code(inspect.getfile(thing), name)
        text = inspect.getsource(thing)
    except (OSError, TypeError) as error:
        raise CompareError(
            f"the source of {name} cannot be read: put it in a file and give 'file.py:{name}'"
        ) from error
    short = name.rpartition(".")[2]
    return Code(short, {f"{short}.py": inspect.cleandoc(f"\n{text}")}, bytes(reduction.dumps(thing)))


def _collect(path: Path, folder: Path, texts: dict[str, str]) -> None:
    """Adds a file, and the files of its folder that it imports."""
    file = path.relative_to(folder).as_posix()
    try:
        texts[file] = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompareError(f"{path} cannot be read: {error}") from error
    for name in _imported(file, texts[file]):
        for neighbor in (folder / f"{name}.py", *sorted((folder / name).glob("**/*.py"))):
            inside = neighbor.parent == folder or (folder / name / "__init__.py").is_file()
            if neighbor.is_file() and inside and neighbor.relative_to(folder).as_posix() not in texts:
                _collect(neighbor, folder, texts)


def _imported(file: str, text: str) -> list[str]:
    """The first parts of the names that a text imports."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError as error:
        raise CompareError(f"{file} cannot be loaded: {error.msg} in line {error.lineno}") from error
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return sorted({name.partition(".")[0] for name in names})


def _execute(module: ModuleType, file: str, text: str) -> None:
    shown = f"<{module.__name__}: {file}>"
    linecache.cache[shown] = (len(text), None, text.splitlines(keepends=True), shown)  # for tracebacks
    module.__file__ = shown
    try:
        exec(compile(text, shown, "exec"), module.__dict__)
    except CompareError:
        raise
    except Exception as error:
        raise CompareError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error


def _defined(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and callable(value) and not name.startswith("_"):
            yield name


class _Helpers(MetaPathFinder, Loader):
    """Finds the neighbors of users' files by their text, as Python finds the neighbors of a script."""

    def __init__(self) -> None:
        self.modules: dict[str, tuple[str, str]] = {}  # file and text by the module's name

    def add(self, texts: Mapping[str, str]) -> None:
        """Makes neighbors importable; they replace those of the same name of another user's file."""
        for file, text in texts.items():
            name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            if name in sys.stdlib_module_names or (name in sys.modules and name not in self.modules):
                raise CompareError(f"{file} hides the module {name}, which is needed: give it another name")
            if self.modules.get(name) != (file, text):
                self.modules[name] = (file, text)
                sys.modules.pop(name, None)
        if self.modules and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        return spec_from_loader(fullname, self, is_package=self.modules[fullname][0].endswith("__init__.py"))

    def exec_module(self, module: ModuleType) -> None:
        _execute(module, *self.modules[module.__name__])


_HELPERS = _Helpers()
