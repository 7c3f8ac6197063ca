"""The program in an answer, by EvalPlus' rules (``evalplus/sanitize.py`` of evalplus 0.3.1).

First the longest run of lines that is Python; of it the imports, and what the tested function needs
of the functions, classes and variables. EvalPlus reads trees with tree-sitter, this with ``ast``:
the same statements are kept (tested against it), comments after the last statement of a function
are not.

Its rules have edges, kept as they are: a function that returns nothing, and a decorated function or
class, are left out; of two definitions of a name the first counts.
"""

import ast
import itertools
import warnings
from collections.abc import Iterable, Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def sanitize(text: str, entry_point: str, also: Iterable[str] = ()) -> str:
    """The program; the longest run of Python lines where nothing in it could be kept.

    Args:
        text: an answer, or a prompt and its completion.
        entry_point: the function that will be tested.
        also: what the tests need besides.
    """
    code = longest_python(text)
    return _needed(code, {entry_point, *also}).strip() or code


def longest_python(text: str) -> str:
    """The run of lines, at least two, that is Python and has most lines that are not blank.

    The first and shortest of several; the first line of the text where there is none.
    """
    lines = text.split("\n")
    until = [0, *itertools.accumulate(bool(line.strip()) for line in lines)]

    def is_python(first: int, last: int) -> bool:
        return parse("\n".join(lines[first : last + 1])) is not None

    best, most = (0, 0), 0
    for first in range(len(lines)):
        for last in range(len(lines) - 1, first, -1):
            count = until[last + 1] - until[first]
            if count <= most:
                break
            if is_python(first, last):
                while last > first + 1 and not lines[last].strip() and is_python(first, last - 1):
                    last -= 1
                best, most = (first, last), count
                break
    return "\n".join(lines[best[0] : best[1] + 1])


def _needed(code: str, names: set[str]) -> str:
    tree = parse(code)
    if tree is None:
        return ""
    imports: list[ast.stmt] = []
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        name = _name_of(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            if getattr(node, "module", None) != "__future__":
                imports.append(node)
        elif name is not None and name not in defined:
            defined[name] = node
    reached, queue = set(names), sorted(names)
    while queue:
        node = defined.get(queue.pop())
        new = set(_identifiers(node)) - reached if node is not None else set()
        reached |= new
        queue.extend(new)
    kept = imports + [node for name, node in defined.items() if name in reached]
    return "\n".join(filter(None, (ast.get_source_segment(code, node) for node in kept)))


def _name_of(node: ast.stmt) -> str | None:
    """What a statement of a module defines, if it is one that is kept."""
    if isinstance(node, Definition):
        returns = isinstance(node, ast.ClassDef) or any(
            isinstance(inner, ast.Return) for inner in ast.walk(node)
        )
        return node.name if returns and not node.decorator_list else None
    if isinstance(node, ast.Assign | ast.AnnAssign):
        left = node.targets[0] if isinstance(node, ast.Assign) else node.target
        # Where the left is no plain name, the grammar's next one is that on the right.
        plain = next((one for one in (left, node.value) if isinstance(one, ast.Name)), None)
        return plain.id if plain is not None else None
    return None


def _identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield from value.split(".")
        for field in ("names", "kwd_attrs"):
            yield from (one for one in getattr(node, field, ()) if isinstance(one, str))


def parse(code: str) -> ast.Module | None:
    """The tree; None if it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
