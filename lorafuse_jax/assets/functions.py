"""Functions to complete, as HumanEval has them: imports, signature, docstring; then the body.

The body is written anew from its syntax tree: without comments, in one style.
"""

import ast
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lorafuse_jax.assets.self_contained import computes, imports_in, needed_imports
from lorafuse_jax.evaluation.code.doctests import INDENTATION, fault_of
from lorafuse_jax.evaluation.code.sanitize import parse

IMPORT_EXAMPLE = re.compile(r"^ *>>> (?P<source>(?:from|import) .*)\n(?: *\n)*", re.MULTILINE)


class Pair(NamedTuple):
    """A function, parted after its docstring.

    Attributes:
        name: of the function.
        prompt: imports, signature and docstring.
        body: the rest, the first line's indentation left out.
        tests: doctests that the whole passes.
    """

    name: str
    prompt: str
    body: str
    tests: str


def documented_functions(file: Path) -> Iterator[Pair]:
    """The functions of a module that stand on their own, and show in a docstring what they give."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):  # of a newer Python, or a template
        return
    imports = imports_in(tree.body)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            continue
        docstring = ast.get_docstring(node)
        tests = tests_in(docstring, node.name) if docstring else ""
        if docstring and tests:
            shown = _without_imports(docstring)
            pair = parted(node, node.body[1:], shown, imports, tests)
            if pair is not None:
                yield pair


def parted(
    function: ast.FunctionDef,
    body: list[ast.stmt],
    docstring: str,
    imports: dict[str, str],
    tests: str,
) -> Pair | None:
    """A function as prompt and body; None if it does not stand on its own.

    Annotations of names that would have to be imported from elsewhere are left out.

    Args:
        function: gives name and arguments.
        body: without docstring.
        docstring: goes into the prompt.
        imports: what its module imports.
        tests: its doctests.
    """
    if not body or '"""' in docstring or not computes(ast.Module(body, [])):
        return None
    text = ast.unparse(ast.Module(body, []))
    for header in (_header(function), _header(_bare(function))):
        whole = f"{header}\n{_indented(text)}\n"
        needed = needed_imports(whole, imports)
        if needed is not None:
            above = "".join(f"{line}\n" for line in needed) + "\n\n" * bool(needed)
            prompt = f"{above}{header}\n{_indented(_quoted(docstring))}"
            return Pair(function.name, prompt, _indented(text).strip(), tests)
    return None


def tests_in(docstring: str, name: str) -> str:
    """The doctests of a docstring that can be run and compared; "" if none of them calls it."""
    try:
        examples = doctest.DocTestParser().get_examples(docstring)
    except ValueError:
        return ""
    kept = [example for example in examples if fault_of(example) is None and _is_own(example)]
    called = [example for example in kept if example.want and f"{name}(" in example.source]
    return "\n".join(map(_shown, kept)) if called else ""


def shown(source: str, output: str) -> str:
    """A doctest."""
    return f">>> {source}\n{output}"


def _without_imports(docstring: str) -> str:
    """Without the examples' imports of the package itself, whose function stands in the prompt."""

    def kept(found: re.Match[str]) -> str:
        tree = parse(found["source"])
        return found[0] if tree is not None and computes(tree) else ""

    return IMPORT_EXAMPLE.sub(kept, docstring)


def _is_own(example: doctest.Example) -> bool:
    """Not an import of the package itself, which the program stands for; and it only computes."""
    return computes(ast.parse(example.source))


def _shown(example: doctest.Example) -> str:
    first, *rest = example.source.rstrip("\n").split("\n")
    lines = [f">>> {first}", *(f"... {line}" for line in rest), *example.want.splitlines()]
    return "\n".join(lines)


def _bare(function: ast.FunctionDef) -> ast.FunctionDef:
    """Without annotations."""
    copy = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(copy, ast.FunctionDef)
    copy.returns = None
    for argument in ast.walk(copy.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return copy


def _header(function: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"def {function.name}({ast.unparse(function.args)}){returns}:"


def _quoted(docstring: str) -> str:
    text = inspect.cleandoc(docstring)
    prefix = "r" if "\\" in text else ""
    return f'{prefix}"""{text}"""' if "\n" not in text else f'{prefix}"""{text}\n"""'


def _indented(text: str) -> str:
    return "\n".join(INDENTATION + line if line.strip() else "" for line in text.split("\n"))
