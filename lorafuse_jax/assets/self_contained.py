"""Which Python stands on its own: it needs imports of the standard library only, and just computes.

What is kept is run once when an asset is prepared, and again whenever a reference is checked. So it
may not read or write anything, draw random numbers, or look behind objects: whatever could do so
leaves a piece of code out.
"""

import ast
import builtins
import symtable
from collections.abc import Iterator

MODULES = frozenset(
    (
        *("abc", "bisect", "cmath", "collections", "copy", "decimal", "enum", "fractions"),
        *("functools", "heapq", "itertools", "math", "numbers", "operator", "re", "statistics"),
        *("string", "textwrap", "typing", "unicodedata", "dataclasses"),
    )
)
"""Modules of the standard library that compute."""

REFUSED = frozenset(
    (
        *("open", "exec", "eval", "compile", "input", "breakpoint", "help", "exit", "quit"),
        *("globals", "locals", "vars", "getattr", "setattr", "delattr", "memoryview", "id", "hash"),
        *("print", "license", "copyright", "credits", "dir"),
    )
)
"""Built-ins that do more than compute, or give something else in the next process."""

ALLOWED = frozenset(name for name in dir(builtins) if not name.startswith("_")) - REFUSED


def computes(tree: ast.AST) -> bool:
    """Whether every import, name and attribute in the code is one that only computes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and not modules_of(node) <= MODULES:
            return False
        if isinstance(node, ast.Name) and (node.id in REFUSED or node.id.startswith("__")):
            return False
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return False
        if isinstance(node, ast.Global | ast.Nonlocal | ast.AsyncFunctionDef | ast.Await):
            return False
    return True


def modules_of(node: ast.Import | ast.ImportFrom) -> set[str]:
    """The first parts of what is imported; "." for a package's own."""
    if isinstance(node, ast.ImportFrom):
        return {"." if node.level else (node.module or "").split(".")[0]}
    return {alias.name.split(".")[0] for alias in node.names}


def imports_in(statements: list[ast.stmt]) -> dict[str, str]:
    """Name -> the statement that imports it alone, of the imports that only compute."""
    found = {}
    for node in statements:
        if not isinstance(node, ast.Import | ast.ImportFrom) or not modules_of(node) <= MODULES:
            continue
        for alias in node.names:
            if isinstance(node, ast.Import):
                one: ast.stmt = ast.Import([alias])
                name = alias.asname or alias.name.partition(".")[0]
            else:
                one, name = ast.ImportFrom(node.module, [alias], 0), alias.asname or alias.name
            found[name] = ast.unparse(one)
    return found


def needed_imports(source: str, available: dict[str, str]) -> list[str] | None:
    """The import statements that a definition needs.

    Args:
        source: of a function, all of it.
        available: from ``imports_in``.

    Returns:
        Sorted; None if it needs anything else besides built-ins that only compute.
    """
    names = set(_free_names(symtable.symtable(source, "<function>", "exec")))
    others = names - ALLOWED
    if not others <= available.keys():
        return None
    return sorted({available[name] for name in others})


def _free_names(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that are looked up outside of the code; what its outermost level assigns is not."""
    own = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    for one in _looked_up(table):
        if one not in own:
            yield one


def _looked_up(table: symtable.SymbolTable) -> Iterator[str]:
    outermost = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (outermost or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _looked_up(child)
