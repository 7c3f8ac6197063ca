"""Published prompts that training and evaluation have in common."""

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{prompt}\n\n### Response:"
)
"""Stanford Alpaca's, for an instruction without an input."""

METAMATH = ALPACA + " Let's think step by step."
"""MetaMath's (2309.12284): the same, and the words that begin the answer."""
