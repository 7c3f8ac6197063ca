"""Peak memory of loading a sharded checkpoint, and the error of a quantised base.

    .venv/bin/python experiments/bench/loading.py

First a random Llama of 0.7 B parameters in six float32 shards (2.9 GB) is written to a temporary
folder and loaded in a fresh process whose anonymous memory (the parameters and whatever is copied
on the way, not the mapped pages of the files) is sampled every 5 ms. Then SmolLM2-135M answers 40
held-out problems of ASDiv in float32, int8 and NF4: the root mean square difference of its logits
relative to their spread, the divergence of its next-token distributions, and the log-likelihood of
the reference answers.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
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


def load_watched(folder: str, quantization: str | None = None) -> dict:
    """Load, and watch the memory."""
    import jax

    from lorafuse_jax.models.hub import load_model

    jax.numpy.zeros(1).block_until_ready()
    before, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], anonymous_bytes())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    model = load_model(folder, quantization=quantization)
    jax.block_until_ready(model.params)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    return {"params": size, "peak": peak[0] - before, "seconds": seconds}


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
        print(json.dumps(load_watched(sys.argv[1], *sys.argv[2:])))
        return
    result: dict = {"bench": "loading"}
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        for quantization in (None, "int8", "nf4"):
            command = [sys.executable, __file__, folder, *([quantization] if quantization else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.strip().splitlines()[-1])
            ratio = found["peak"] / found["params"]
            print(
                f"{quantization or 'float32':8} parameters {found['params'] / 1e9:.2f} GB, peak "
                f"{found['peak'] / 1e9:.2f} GB ({ratio:.2f} x), {found['seconds']:.1f} s"
            )
            result[f"peak_ratio_{quantization or 'float32'}"] = ratio
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
