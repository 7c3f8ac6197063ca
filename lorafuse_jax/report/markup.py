"""HTML from data: what is not HTML yet is escaped, and every table can be read aloud."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

VOID = ("input", "meta", "wbr")
"""Elements that have no end."""


SHORTEST_PART = 10


class Html(str):
    """Text that is HTML already."""


class Cell(NamedTuple):
    """A cell of a table that is more than text.

    Attributes:
        content: what stands in it.
        classes: for the style.
        shade: ``--shade`` of the style: how strongly a heat table colours it, 0 to 1.
    """

    content: str
    classes: str = ""
    shade: float | None = None


class Row(NamedTuple):
    """A row of a table: its first cell is its heading."""

    cells: Sequence[str | Cell]
    classes: str = ""


def html_of(content: object) -> Html:
    """As HTML: text is escaped, lines that are broken stay so."""
    return content if isinstance(content, Html) else Html(escape(str(content)))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts after one another, each escaped if it is text."""
    return Html(between.join(html_of(part) for part in parts))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element; an attribute's ``_`` is a dash, and one of None is left out."""
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{join(content)}</{name}>")


def table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Row],
    *,
    groups: Sequence[tuple[str, int]] = (),
    note: str = "",
    classes: str | None = None,
) -> Html:
    """A table in a box of its own, in which it scrolls where the screen is narrow.

    Args:
        caption: what it is of.
        headings: of its columns.
        rows: all as long as ``headings``.
        groups: headings above these, each over so many columns; all columns in total.
        note: what is to be known for reading it; stands below.
        classes: for the style.
    """
    above = tag("tr", *(_group(text, width) for text, width in groups)) if groups else ""
    texts = _columns_of_text(rows)
    heads = [
        tag("th", breakable(heading), scope="col", class_="text" if number in texts else None)
        for number, heading in enumerate(headings)
    ]
    head = tag("thead", above, tag("tr", *heads))
    body = tag("tbody", *(_row(row) for row in rows))
    whole = tag("table", tag("caption", tag("span", caption)), head, body, class_=classes)
    # A box that scrolls has to be reached by the keyboard, and then needs a name.
    box = tag("div", whole, class_="wide", role="region", aria_label=caption, tabindex=0)
    return join([box, tag("p", note, class_="note") if note else ""])


def figure(caption: str, *drawn: object, note: str = "") -> Html:
    """A drawing with what it shows above, and how to read it below."""
    below = tag("p", note, class_="note") if note else ""
    return tag("figure", tag("figcaption", caption), *drawn, below)


def section(id: str, title: str, *content: object, level: int = 2) -> Html:
    """A part of the page that the contents may point to."""
    return tag("section", tag(f"h{level}", title, id=id), *content, aria_labelledby=id)


def details(summary: object, *content: object) -> Html:
    """What is shown to who asks for it."""
    return tag("details", tag("summary", summary), *content, class_="plain")


def paragraphs(texts: Iterable[object]) -> Html:
    """One a text."""
    return join(tag("p", text) for text in texts)


def bullets(items: Iterable[object]) -> Html:
    """A list."""
    return tag("ul", *(tag("li", item) for item in items))


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Names and what they are."""
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in pairs))


def link(id: str, text: object) -> Html:
    """To a place on the page."""
    return tag("a", text, href=f"#{id}")


def _group(text: str, width: int) -> Html:
    if not text:
        return tag("td", colspan=width)
    return tag("th", text, scope="colgroup", colspan=width)


def breakable(name: str) -> Html:
    """A name that may be broken into parts of ten letters or more; HTML stays as it is."""
    if isinstance(name, Html):
        return name
    return join(map(_breakable_word, name.split(" ")), " ")


def _breakable_word(word: str) -> Html:
    parts = [""]
    for piece in re.split(r"(?<=[_/-])(?=\w)", word):
        if len(parts[-1]) >= SHORTEST_PART:
            parts.append("")
        parts[-1] += piece
    return Html("<wbr>".join(map(html_of, parts)))


def _columns_of_text(rows: Sequence[Row]) -> set[int]:
    """Those that are read from the left."""
    return {
        number
        for row in rows
        for number, cell in enumerate(row.cells)
        if isinstance(cell, Cell) and "text" in cell.classes.split()
    }


def _row(row: Row) -> Html:
    first, *rest = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row.cells)
    return tag(
        "tr",
        tag("th", breakable(first.content), scope="row", class_=first.classes or None),
        *(_cell(cell) for cell in rest),
        class_=row.classes or None,
    )


def _cell(cell: Cell) -> Html:
    shade = None if cell.shade is None else f"--shade:{cell.shade:.2f}"
    return tag("td", cell.content, class_=cell.classes or None, style=shade)
