"""Peak memory of loading a sharded checkpoint, and the error of a quantised base.

    .venv/bin/python experiments/bench/loading.py

First a random Llama of 0.7 B parameters in six float32 shards (2.9 GB) is written to a temporary
folder and loaded in a fresh process whose anonymous memory (the parameters and whatever is copied
on the way, not the mapped pages of the files) is sampled every 5 ms; then tensors of LLaMA2-7B's
shapes, made up on the way, are loaded into int8 and NF4. Then SmolLM2-135M answers 40 held-out
problems of ASDiv in float32, int8 and NF4: the root mean square difference of its logits relative
to their spread, the divergence of its next-token distributions, and the log-likelihood of the
reference answers.
"""

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
LARGE = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
PROBLEMS = 40


def write_model(folder: Path) -> None:
    """A random checkpoint in shards, with the tokenizer of SmolLM2 cut off at its vocabulary."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model.save_pretrained(folder, max_shard_size="500MB")
    words = Tokenizer(models.WordLevel({"<end>": 0, "a": 1}, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)


def anonymous_bytes() -> int:
    """Of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def watched(load: Callable[[], Any]) -> dict:
    """Load, and watch the memory."""
    import jax

    jax.numpy.zeros(1).block_until_ready()
    before, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], anonymous_bytes())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    params = jax.block_until_ready(load())
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {"params": size, "peak": peak[0] - before, "seconds": seconds}


def load_folder(folder: str, quantization: str | None) -> dict:
    """A checkpoint on disk."""
    from lorafuse_jax.models.hub import load_model

    return watched(lambda: load_model(folder, quantization=quantization).params)


def load_large(quantization: str) -> dict:
    """LLaMA2-7B's shapes in bfloat16, each tensor handed over as if it were read from a file."""
    import jax.numpy as jnp
    import numpy as np

    from lorafuse_jax.models.families.llama import WEIGHTS, config_from_hf
    from lorafuse_jax.models.filling import StoredTensor
    from lorafuse_jax.models.weights import load_params, parameter_shapes

    config = config_from_hf(LARGE)
    numbers = np.random.default_rng(0).normal(scale=0.02, size=1 << 20)
    pool = np.tile(numbers.astype(jnp.bfloat16), 126)

    def tensor(name: str, shape: tuple[int, ...]) -> StoredTensor:
        def read(index: tuple[slice, ...]) -> np.ndarray:
            sizes = [len(range(*one.indices(size))) for one, size in zip(index, shape, strict=True)]
            return pool[: math.prod(sizes)].reshape(sizes).copy()

        return StoredTensor(name, shape, Path("large"), read)

    stored, shapes = [], parameter_shapes(config)
    for rule in (rule for rule in WEIGHTS if rule.ours in shapes):
        in_layers, shape = "{layer}" in rule.hf, shapes[rule.ours]
        shape = shape[1:] if in_layers else shape
        shape = shape[::-1] if rule.transpose else shape
        layers = config.num_layers if in_layers else 1
        stored += [tensor(rule.hf.format(layer=layer), shape) for layer in range(layers)]
    settings: dict[str, Any] = {"quantization": quantization, "where": Path("large")}
    return watched(lambda: load_params(stored, config, WEIGHTS, jnp.bfloat16, **settings))


def quantization_errors() -> dict[str, dict[str, float]]:
    """Of int8 and NF4 against float32, on real text."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lorafuse_jax.adapted import forward
    from lorafuse_jax.assets import fetch
    from lorafuse_jax.data.encode import encode_split
    from lorafuse_jax.data.examples import load_task
    from lorafuse_jax.models.hub import load_model

    quiet = {"say": lambda line: None}
    folder = fetch("smollm2-135m-instruct", **quiet)
    models = {kind: load_model(folder, quantization=kind) for kind in (None, "int8", "nf4")}
    examples = load_task(fetch("asdiv", **quiet)).splits["test"][:PROBLEMS]
    encoded = encode_split(examples, models[None].tokenizer, "qa", max_length=2048).examples
    totals: dict[str, list[tuple]] = {"int8": [], "nf4": []}
    run = {
        kind: jax.jit(lambda params, tokens, model=model: forward(model, params, None, tokens))
        for kind, model in models.items()
    }
    for one in encoded:
        ids = np.concatenate([one.prompt, one.completion])
        padded = jnp.asarray(np.pad(ids, (0, -len(ids) % 64)))[None]
        logits = {kind: run[kind](models[kind].params, padded)[0, : len(ids)] for kind in models}
        exact = logits[None]
        at = np.arange(len(one.prompt) - 1, len(ids) - 1)
        log_probs = {kind: jax.nn.log_softmax(found) for kind, found in logits.items()}
        chosen = {kind: float(found[at, ids[at + 1]].mean()) for kind, found in log_probs.items()}
        for kind, found in totals.items():
            difference = jnp.sqrt(jnp.mean((logits[kind] - exact) ** 2)) / exact.std()
            divergence = (jnp.exp(log_probs[None]) * (log_probs[None] - log_probs[kind])).sum(-1)
            found.append((float(difference), float(divergence.mean()), chosen[kind] - chosen[None]))
    size = {k: sum(x.nbytes for x in jax.tree.leaves(m.params)) for k, m in models.items()}
    return {
        kind: {
            "relative_error": float(np.mean([one[0] for one in found])),
            "divergence": float(np.mean([one[1] for one in found])),
            "log_likelihood_change": float(np.mean([one[2] for one in found])),
            "size_ratio": size[kind] / size[None],
        }
        for kind, found in totals.items()
    }


def main() -> None:
    """Print both, end with one JSON line."""
    if len(sys.argv) > 1:
        source, kind = sys.argv[1], sys.argv[2]
        quantization = None if kind == "float32" else kind
        print(json.dumps(load_large(kind) if source == "7B" else load_folder(source, quantization)))
        return
    result: dict = {"bench": "loading"}
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        cases = [(folder, kind) for kind in ("float32", "int8", "nf4")]
        for source, kind in [*cases, ("7B", "int8"), ("7B", "nf4")]:
            command = [sys.executable, __file__, source, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.strip().splitlines()[-1])
            ratio = found["peak"] / found["params"]
            name = kind if source == folder else f"7B {kind}"
            print(
                f"{name:8} parameters {found['params'] / 1e9:.2f} GB, peak "
                f"{found['peak'] / 1e9:.2f} GB ({ratio:.2f} x), {found['seconds']:.1f} s"
            )
            result[f"peak_ratio_{name}"] = ratio
    for kind, errors in quantization_errors().items():
        change = errors["log_likelihood_change"]
        print(
            f"{kind:8} logits differ by {errors['relative_error']:.3f} of their spread, divergence "
            f"{errors['divergence']:.4f} nats, reference answers {change:+.3f} nats a token, "
            f"{errors['size_ratio']:.2f} x the size"
        )
        result[kind] = errors
    print(json.dumps(result))


if __name__ == "__main__":
    main()
