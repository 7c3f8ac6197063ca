"""A member of a run as EleutherAI's lm-evaluation-harness sees a model.

The harness asks one model after the other, and asks all the same. So the first member that is asked
has the questions answered for all members, in one batch over one base; the others find theirs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lorafuse_jax.generation.request import Answer, Request
from lorafuse_jax.generation.stops import cut
from lorafuse_jax.types import UserError

DEFAULT_NEW_TOKENS = 256
"""The harness's own default, where a task does not say."""

LENGTH_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
GENERATION_KEYS = {*LENGTH_KEYS, "until", "do_sample", "temperature", "top_p", "min_p", "seed"}

Serve = Callable[[Sequence[Request]], list[list[Answer]]]
"""Requests to their answers, by member."""


class SharedAnswers:
    """What every member answers to requests that were seen before."""

    def __init__(self, serve: Serve) -> None:
        self._serve, self._known = serve, {}

    def of(self, member: int, requests: Sequence[Request]) -> list[Answer]:
        """One member's answers; those that are not known are asked of all members."""
        keys = [_key(request) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self._known}
        if new:
            by_member = self._serve(list(new.values()))
            self._known |= dict(zip(new, zip(*by_member, strict=True), strict=True))
        return [self._known[key][member] for key in keys]


def _key(request: Request) -> tuple:
    fields = request._asdict()
    return tuple(
        value.tobytes() if isinstance(value, np.ndarray) else value for value in fields.values()
    )


class HarnessModel(TemplateLM):
    """One member; see the module."""

    def __init__(self, answers: SharedAnswers, member: int, tokenizer: Any, context: int) -> None:
        super().__init__()
        self._answers, self._member = answers, member
        self.tokenizer, self._context = tokenizer, context

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """Part of the harness's cache keys."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The tokenizer's template."""
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; a text that begins with the begin token does not get another one."""
        bos = self.tokenizer.bos_token
        if add_special_tokens is None and bos and string.startswith(bos):
            add_special_tokens = False
        settings = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer(string, **settings)["input_ids"]

    def _loglikelihood_tokens(self, requests, **kwargs: Any) -> list[tuple[float, bool]]:
        asked = [self._scored(context, continuation) for _, context, continuation in requests]
        answers = self._answers.of(self._member, asked)
        return [(float(one.log_probs.sum()), bool(one.best.all())) for one in answers]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, in windows of the model's context that do not overlap."""
        asked, owners = [], []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._context,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, windows):
                asked.append(self._scored(context, continuation))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, one in zip(owners, self._answers.of(self._member, asked), strict=True):
            totals[owner] += float(one.log_probs.sum())
        return totals

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Text up to the first stop string; a question that is repeated is sampled anew."""
        asked, texts = [], []
        times: Counter[tuple] = Counter()
        for request in requests:
            one = self._generated(*request.args)
            key = _key(one)
            asked.append(one._replace(seed=one.seed + times[key]) if one.temperature else one)
            times[key] += 1
        for request, one in zip(asked, self._answers.of(self._member, asked), strict=True):
            text = self.tokenizer.decode(one.tokens, skip_special_tokens=True)
            texts.append(cut(text, request.stop_strings))
        return texts

    def _scored(self, context: Sequence[int], continuation: Sequence[int]) -> Request:
        return Request(np.array(context, np.int32), 0, np.array(continuation, np.int32))

    def _generated(self, context: str, settings: dict[str, Any]) -> Request:
        if unknown := settings.keys() - GENERATION_KEYS:
            raise UserError(f"the task asks for generation settings that are not known: {unknown}")
        until = settings.get("until") or []
        length = next((settings[k] for k in LENGTH_KEYS if k in settings), DEFAULT_NEW_TOKENS)
        temperature = float(settings.get("temperature") or 0.0)
        sampled = settings.get("do_sample", temperature > 0)
        if sampled and not temperature:
            temperature = 1.0
        return Request(
            np.array(self.tok_encode(context), np.int32),
            int(length),
            temperature=temperature if sampled else 0.0,
            top_p=float(settings.get("top_p") or 1.0),
            min_p=float(settings.get("min_p") or 0.0),
            seed=int(settings.get("seed") or 0),
            stop_strings=tuple([until] if isinstance(until, str) else until),
        )
