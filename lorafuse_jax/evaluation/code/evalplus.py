"""EvalPlus' ways to ask for a program (evalplus 0.3.1: ``codegen.py``, ``provider/utility.py``).

Departure: EvalPlus begins a chat model's answer for it ("Below is a Python script ...", and a
fence) and stops where the fence ends; here the model begins it, and what comes after the program is
left out by ``sanitize``.
"""

from lorafuse_jax.evaluation.benchmark import Decoding
from lorafuse_jax.evaluation.sandbox import Limits

INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown "
    "code block:"
)
MAX_NEW_TOKENS = 768
STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
HUMANEVAL_STOPS = ("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
MBPP_STOPS = ('\n"""', "\nassert")
ABOUT_CHAT = (
    "EvalPlus' for chat models: a script in a code block, of which its rules keep a program"
)

LIMITS = Limits(seconds=60.0, cpu_seconds=15)
"""EvalPlus gives every call a second, or four times what its own solution took; all 60 s."""


def base_prompt(prompt: str) -> str:
    """For completion."""
    return f"{prompt.strip()}\n"


def chat_prompt(prompt: str) -> str:
    """A user's turn."""
    return f"{INSTRUCTION}\n```\n{prompt.strip()}\n```\n"


def decoding(stops: tuple[str, ...]) -> Decoding:
    """Greedy."""
    return Decoding(MAX_NEW_TOKENS, (*STOPS, *stops))
