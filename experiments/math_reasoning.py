"""Does fusing seeds help in mathematical reasoning?

.venv/bin/python -m experiments.math_reasoning --scale laptop --out runs/study/math
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.areas.command import main
from experiments.areas.scales import laptop_area, paper_area, smoke_area

PAPER_TESTS = {"gsm8k@metamath": None, "math@metamath": None}
CONFIG = {
    "paper": paper_area(
        "math_reasoning-llama2-7b",
        "meta-llama/Llama-2-7b-hf",
        "metamathqa",
        PAPER_TESTS,
        max_length=512,
    ),
    "paper-mistral": paper_area(
        "math_reasoning-mistral-7b",
        "mistralai/Mistral-7B-v0.1",
        "metamathqa",
        PAPER_TESTS,
        max_length=512,
    ),
    "laptop": laptop_area(
        "math_reasoning",
        "gsm-symbolic",
        {
            "gsm-symbolic/test": None,
            "gsm-symbolic/transfer": 60,
            "asdiv@trained": 60,
            "gsm8k-100": None,
        },
        groups=3,
        curve=True,
    ),
    "smoke": smoke_area(
        "math_reasoning-smoke",
        "gsm-symbolic",
        {"gsm-symbolic/test": 4, "gsm8k-100": 2},
    ),
}

if __name__ == "__main__":
    sys.exit(main(CONFIG, "math_reasoning", __doc__ or ""))
