"""How likely held-out text is: of a file of one's own, and of WikiText.

A score must be in [0, 1] and better when higher, so what is compared is the inverse of perplexity,
``exp(log_prob / count)``: the geometric mean of the probability of a token, a word or a byte. The
mean over documents weighs each alike, which makes pairs of models comparable document by document;
lm-eval's corpus perplexity weighs documents by their length.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Response,
    Row,
    Score,
    Source,
    each,
)
from lorafuse_jax.evaluation.checkers.library import library
from lorafuse_jax.types import UserError

METRICS = ("1/token_perplexity", "1/word_perplexity", "1/byte_perplexity")

ROLLING = Convention(
    about="the text alone, in windows of the model's context that do not overlap (lm-eval's)",
    prompt=lambda row, shots: "",
    decoding=Decoding(max_new_tokens=0),
    framing="rolling",
)


def _benchmark(
    name: str,
    about: str,
    licence: str,
    source: Source,
    column: str,
    text_of: Callable[[str], str],
) -> Benchmark:
    return Benchmark(
        name=name,
        version=1,
        about=about,
        licence=licence,
        source=source,
        columns=(column,),
        conventions={"rolling": ROLLING},
        pose=partial(_pose, column, text_of),
        score=each(_score, METRICS),
        metrics=METRICS,
    )


def _pose(
    column: str,
    text_of: Callable[[str], str],
    row: Row,
    convention: Convention,
    shots: Sequence[Mapping[str, Any]],
) -> Question:
    original = row.value[column]
    if not isinstance(original, str) or not original.strip():
        raise UserError(f"{row.where}: {column} is {original!r}; expected a text")
    # As lm-eval counts, where a text that begins or ends with space has empty words there.
    counts = {"words": len(re.split(r"\s+", original)), "bytes": len(original.encode())}
    return Question(
        id=str(row.value.get("id", row.number)),
        where=row.where,
        prompt="",
        gold=counts,
        references=(text_of(original),),
    )


def _score(question: Question, response: Response) -> Score:
    total = sum(response.log_probs)
    counts = (sum(response.tokens), question.gold["words"], question.gold["bytes"])
    values = [math.exp(total / count) for count in counts]
    return Score(values=dict(zip(METRICS, values, strict=True)))


def _detokenized(page: str) -> str:
    module = library("lm_eval.tasks.wikitext.preprocess_wikitext", "wikitext")
    return module.wikitext_detokenizer({"page": page})


BENCHMARK = _benchmark(
    name="perplexity",
    about='held-out text: JSONL with "text", a document a line, or one .txt file',
    licence="the data's",
    source=Source(),
    column="text",
    text_of=lambda text: text,
)

WIKITEXT = _benchmark(
    name="wikitext",
    about="WikiText-2 (1609.07843), test: 62 articles, with lm-eval's detokenisation",
    licence="CC BY-SA 3.0",
    source=Source(hub="EleutherAI/wikitext_document_level", config="wikitext-2-raw-v1"),
    column="page",
    text_of=_detokenized,
)
