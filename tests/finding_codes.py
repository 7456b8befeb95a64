"""The codes and severities of all findings that the package makes, read from its source.

A function that passes one of its parameters on as the code (or severity) is followed to its calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CODE, SEVERITY = "code", "severity"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Made:
    """One place that makes findings: their code, their possible severities (none: unknown)."""

    code: str
    severities: frozenset[str]
    where: str


@dataclass
class _Module:
    path: Path
    tree: ast.Module
    functions: dict[ast.AST, Function] = field(default_factory=dict)  # of each node inside

    def __post_init__(self) -> None:
        for function in ast.walk(self.tree):
            if isinstance(function, Function):
                self.functions |= dict.fromkeys(ast.walk(function), function)


class UnresolvedError(AssertionError):
    """A code that is not known from the source alone."""


class FindingCodes:
    """All findings that the modules below a folder make."""

    def __init__(self, package: Path) -> None:
        paths = sorted(package.rglob("*.py"))
        self._modules = [_Module(path, ast.parse(path.read_text())) for path in paths]
        self._constants = {
            target.id: node.value
            for module in self._modules
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def made(self) -> set[Made]:
        """Every code that some call of Finding, or a `replace(…, code=…)`, may have."""
        return {made for module in self._modules for made in self._of(module)}

    def _of(self, module: _Module) -> Iterator[Made]:
        for call in (node for node in ast.walk(module.tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if name in ("Finding", "Finding.at_rows"):
                first = call.args[0] if call.args else given[CODE]
                second = call.args[1] if len(call.args) > 1 else given[SEVERITY]
                severities = frozenset(self._values(second, module, SEVERITY))
                for code in self._values(first, module, CODE):
                    yield Made(code, severities, f"{module.path.name}:{call.lineno}")
            elif name == "replace" and CODE in given:
                for code in self._values(given[CODE], module, CODE):
                    yield Made(code, frozenset(), f"{module.path.name}:{call.lineno}")

    def _values(self, node: ast.expr, module: _Module, kind: str) -> Iterator[str]:
        """The values of an expression: texts, names of severities."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Attribute(value=ast.Name(id="Severity"), attr=name):
                yield name.lower()
            case ast.IfExp():
                yield from self._values(node.body, module, kind)
                yield from self._values(node.orelse, module, kind)
            case ast.Name(id=name):
                yield from self._of_name(name, node, module, kind)
            case _:
                self._refuse(node, module)

    def _of_name(self, name: str, node: ast.AST, module: _Module, kind: str) -> Iterator[str]:
        function = module.functions.get(node)
        assigned = [*_assigned(name, function)] if function else []
        if assigned:
            for value in assigned:
                yield from self._values(value, module, kind)
        elif function and name in _parameters(function):
            yield from self._of_parameter(name, function, kind)
        elif name in self._constants:
            yield from self._values(self._constants[name], module, kind)
        else:
            self._refuse(node, module)

    def _of_parameter(self, name: str, function: Function, kind: str) -> Iterator[str]:
        """The values that the calls of a function give to a parameter."""
        if (default := _default(name, function)) is not None:
            yield from self._values(default, self._modules[0], kind)
        position = [each for each in _parameters(function) if each != "self"].index(name)
        for module in self._modules:
            if function.name.startswith("_") and function not in module.functions.values():
                continue  # a function of that name in another module
            for call in (node for node in ast.walk(module.tree) if isinstance(node, ast.Call)):
                if ast.unparse(call.func).removeprefix("self.") != function.name:
                    continue
                given = {keyword.arg: keyword.value for keyword in call.keywords}
                if name in given:
                    yield from self._values(given[name], module, kind)
                elif position < len(call.args):
                    yield from self._values(call.args[position], module, kind)

    def _refuse(self, node: ast.AST, module: _Module) -> None:
        where = f"{module.path}:{getattr(node, 'lineno', 0)}"
        raise UnresolvedError(
            f"{where}: give the finding's code as a text, found {ast.unparse(node)}"
        )


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return [argument.arg for argument in every]


def _default(name: str, function: Function) -> ast.expr | None:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    last = positional[len(positional) - len(arguments.defaults) :]
    found = {argument.arg: value for argument, value in zip(last, arguments.defaults, strict=True)}
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found |= {argument.arg: value for argument, value in pairs if value is not None}
    return found.get(name)


def _assigned(name: str, function: Function) -> Iterator[ast.expr]:
    """What a function assigns to a name, in a loop over a tuple also."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _paired(name, target, node.value)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            for item in node.iter.elts:
                yield from _paired(name, node.target, item)


def _paired(name: str, target: ast.expr, value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for each, part in zip(target.elts, value.elts, strict=True):
            yield from _paired(name, each, part)
