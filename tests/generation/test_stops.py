from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.stops import cut, ends_at_stop_strings


def decode(tokens):
    return "".join(map(chr, tokens))


def test_an_answer_ends_with_the_first_stop_string_in_it():
    ended = ends_at_stop_strings(decode)
    request = Request([1], stop_strings=("ab", "\n\n"))
    assert not ended(request, list(b"a b"))
    assert ended(request, list(b"xxabx"))
    assert not ended(Request([1]), list(b"ab"))
    assert cut("x\n\nabc", request.stop_strings) == "x"
    assert cut("abc", ()) == "abc"
