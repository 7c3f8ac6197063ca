"""Does fusing seeds help in following instructions?

.venv/bin/python -m experiments.instruction_following --scale laptop --out runs/study/instructions
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.areas.command import main
from experiments.areas.scales import laptop_area, paper_area, smoke_area

PAPER_TESTS = {
    "mmlu@5-shot": None,
    "gsm8k@8-shot-cot": None,
    "ifeval": None,
    "ifbench": None,
    "truthfulqa": None,
    "hellaswag": None,
    "arc-challenge": None,
    "boolq": None,
}
CONFIG = {
    "paper": paper_area(
        "instruction_following-llama2-7b", "meta-llama/Llama-2-7b-hf", "tulu-v2", PAPER_TESTS
    ),
    "paper-mistral": paper_area(
        "instruction_following-mistral-7b", "mistralai/Mistral-7B-v0.1", "tulu-v2", PAPER_TESTS
    ),
    "laptop": laptop_area(
        "instruction_following",
        "evals-mixture",
        {"evals-mixture/test": 300, "evals-mixture/transfer": 150, "ifeval": 20},
        groups=2,
        examples=480,
    ),
    "smoke": smoke_area(
        "instruction_following-smoke",
        "evals-mixture",
        {"evals-mixture/test": 4, "evals-mixture/transfer": 2},
    ),
}

if __name__ == "__main__":
    sys.exit(main(CONFIG, "instruction_following", __doc__ or ""))
