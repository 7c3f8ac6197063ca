"""Everything that is needed to run it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorafuse_jax.report.markup import Cell, Html, Row, facts, join, paragraphs, table, tag


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What a run was made by and of.

    Attributes:
        commands: that make it, in order.
        facts: names and values: seeds, fingerprints.
        versions: of packages, Python and the machine.
        hashes: sha256 of the weights of each adapter.
        notes: what these commands cannot say.
    """

    commands: Sequence[str]
    facts: Sequence[tuple[str, str]]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]
    notes: Sequence[str] = ()


def rerun(found: Rerun, level: int = 3) -> Html:
    """Commands, fingerprints, versions and hashes.

    Args:
        found: what is known.
        level: of its headings.
    """
    lines = "\n".join(found.commands)
    code = lambda text: tag("code", text)  # noqa: E731
    return join(
        [
            paragraphs(
                [
                    "These commands make the run anew; on the same kind of device and with these "
                    "versions, the same adapters bit for bit.",
                    *found.notes,
                ]
            ),
            tag("pre", lines, class_="command", tabindex=0, aria_label="commands", role="region"),
            facts((name, code(value)) for name, value in found.facts),
            tag(f"h{level}", "Versions"),
            facts(found.versions.items()),
            _hashes(found.hashes),
        ]
    )


def _hashes(hashes: Mapping[str, str]) -> Html:
    if not hashes:
        return Html("")
    rows = [Row([name, Cell(tag("code", digest), "text")]) for name, digest in hashes.items()]
    return table("Adapters", ["adapter", "sha256 of its weights"], rows)
