"""Does fusing seeds help in code generation?

.venv/bin/python -m experiments.code_generation --scale laptop --out runs/study/code
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.areas.command import main
from experiments.areas.scales import laptop_area, paper_area, smoke_area

PAPER_TESTS = {"humaneval": None, "humaneval+": None, "mbpp": None, "mbpp+": None}
CONFIG = {
    "paper": paper_area(
        "code_generation-llama2-7b", "meta-llama/Llama-2-7b-hf", "codefeedback", PAPER_TESTS
    ),
    "paper-mistral": paper_area(
        "code_generation-mistral-7b", "mistralai/Mistral-7B-v0.1", "codefeedback", PAPER_TESTS
    ),
    "laptop": laptop_area(
        "code_generation",
        "code-pairs",
        {"code-pairs/test": 200, "humaneval": 40},
        groups=2,
        max_length=512,
        overlong="drop",
    ),
    "smoke": smoke_area(
        "code_generation-smoke",
        "code-pairs",
        {"code-pairs/test": 3, "humaneval": 2},
        max_length=256,
        overlong="drop",
    ),
}

if __name__ == "__main__":
    sys.exit(main(CONFIG, "code_generation", __doc__ or ""))
