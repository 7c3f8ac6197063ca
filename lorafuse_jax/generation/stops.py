"""Stop strings: where an answer ends that no stop token ends."""

from collections.abc import Callable, Sequence

from lorafuse_jax.generation.request import Request

Decode = Callable[[Sequence[int]], str]


def ends_at_stop_strings(decode: Decode) -> Callable[[Request, list[int]], bool]:
    """For ``serve``: whether one of a request's stop strings is in its answer.

    Args:
        decode: token ids to text.
    """

    def ended(request: Request, tokens: list[int]) -> bool:
        if not request.stop_strings:
            return False
        text = decode(tokens)
        return any(stop in text for stop in request.stop_strings)

    return ended


def cut(text: str, stop_strings: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    places = [place for stop in stop_strings if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text
