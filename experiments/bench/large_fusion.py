"""Fusing and exporting adapters of LLaMA2-70B's shapes: peak memory as layers grow in number.

    .venv/bin/python experiments/bench/large_fusion.py            # 20 minutes, 20 GB of disk
    .venv/bin/python experiments/bench/large_fusion.py --quick    # small shapes: does it run?

Files of real size for a few layers are written to a temporary folder: members as PEFT adapters, and
a base whose layers are all in one shard of bfloat16. Each command runs in a process of its own; its
peak is the highest resident memory above what it has before (JAX loaded). Files are read and not
mapped, so nothing of them is left out. What a working set is: the members' factors of the largest
module of one layer and its dense delta, in float32.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np

from lorafuse_jax.formats.tensor_file import Form, TensorFile

HIDDEN, FFN, KEYS = 8192, 28672, 1024
ENTRYWISE = (("ties", 16), ("seedlora", 16))
"""Operators and the rank that their results are brought to; a layer takes minutes."""


def shapes(quick: bool) -> dict[str, tuple[int, int]]:
    """The linears of one layer, [I, O]."""
    hidden, ffn, keys = (256, 512, 64) if quick else (HIDDEN, FFN, KEYS)
    outs = {"q_proj": hidden, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
    linears = {f"self_attn.{name}": (hidden, out) for name, out in outs.items()}
    linears |= {"mlp.gate_proj": (hidden, ffn), "mlp.up_proj": (hidden, ffn)}
    return linears | {"mlp.down_proj": (ffn, hidden)}


def write_file(path: Path, forms: dict[str, Form], seed: int) -> None:
    """Random tensors, one at a time."""
    rng = np.random.default_rng(seed)
    with TensorFile(path, forms) as file:
        for name, form in forms.items():
            tensor = rng.standard_normal(form.shape, dtype=np.float32)
            tensor /= 64
            file.put(name, tensor.astype(form.dtype))


def write_members(folder: Path, linears: dict, layers: int, count: int, rank: int, dtype) -> None:
    """PEFT adapters of all linears."""
    forms = {}
    for layer in range(layers):
        for module, (fan_in, fan_out) in linears.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            forms[f"{name}.lora_A.weight"] = Form((rank, fan_in), np.dtype(dtype))
            forms[f"{name}.lora_B.weight"] = Form((fan_out, rank), np.dtype(dtype))
    about = {"peft_type": "LORA", "base_model_name_or_path": "70b", "r": rank, "lora_alpha": rank}
    about |= {"target_modules": [module.split(".")[1] for module in linears]}
    for number in range(count):
        own = folder / f"member-{number}"
        own.mkdir(parents=True)
        write_file(own / "adapter_model.safetensors", forms, number)
        (own / "adapter_config.json").write_text(json.dumps(about))


def write_base(folder: Path, linears: dict, layers: int) -> None:
    """A checkpoint of these linears in one shard."""
    folder.mkdir()
    forms = {
        f"model.layers.{layer}.{module}.weight": Form(
            (fan_out, fan_in), np.dtype(ml_dtypes.bfloat16)
        )
        for layer in range(layers)
        for module, (fan_in, fan_out) in linears.items()
    }
    write_file(folder / "model.safetensors", forms, 0)
    about = {"model_type": "llama", "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(about))


def memory(kind: str) -> int:
    """Of this process, in bytes (Linux)."""
    return 1024 * int(re.search(kind + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])  # pyrefly: ignore


def child(command: list[str]) -> None:
    """Run ``lorafuse`` with these words; print what it took as JSON."""
    import jax

    from lorafuse_jax import cli

    jax.numpy.zeros(1).block_until_ready()
    sys.argv = ["lorafuse", *command]
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.perf_counter()
    cli.main()
    seconds = time.perf_counter() - began
    print(json.dumps({"peak": memory("VmHWM") - before, "seconds": seconds}))


def measured(name: str, command: list[str], read: list[Path], out: Path, working_set: int) -> dict:
    """Run in a fresh process, print a line."""
    words = [sys.executable, __file__, "--child", *command]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    size = sum(file.stat().st_size for file in [*read, *out.glob("*.safetensors")])
    rate = size / found["seconds"] / 1e6
    print(
        f"{name:44} peak {found['peak'] / 1e9:5.2f} GB · working set {working_set / 1e9:5.2f} GB · "
        f"{found['seconds']:6.1f} s · {size / 1e9:5.2f} GB read and written · {rate:4.0f} MB/s",
        flush=True,
    )
    return found | {"bytes": size, "working_set": working_set}


def fusions(root: Path, quick: bool) -> dict[str, dict]:
    """The mean of 3 and of 8 members; then entry-wise operators brought back to a rank."""
    small, large = (3, 16, ml_dtypes.bfloat16), (8, 64, np.float32)
    results: dict[str, dict] = {}
    for which, operators, numbers in (
        (small, [("mean", None)], (2, 4, 8)),
        (large, [("mean", None)], (2, 4, 8)),
        (small, ENTRYWISE, (1, 2)),
    ):
        for layers in numbers:
            results |= fusion(root, quick, layers, which, operators)
    return results


def fusion(root: Path, quick: bool, layers: int, which: tuple, operators) -> dict[str, dict]:
    """Some operators on the same members: so many, of that rank, in that type."""
    count, rank, dtype = which
    linears, results = shapes(quick), {}
    factors = max(4 * count * rank * (i + o) + 4 * i * o for i, o in linears.values())
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        members = Path(scratch) / "members"
        write_members(members, linears, layers, count, rank, dtype)
        for operator, to in operators:
            out = Path(scratch) / operator
            command = ["fuse", *map(str, sorted(members.iterdir()))]
            command += ["--operator", operator, "--out", str(out)]
            command += [] if to is None else ["--rank", str(to)]
            name = f"{operator}, N = {count}, r = {rank}, layers: {layers}"
            read = sorted(members.rglob("*.safetensors"))
            results[name] = measured(name, command, read, out, factors)
    return results


def exports(root: Path, quick: bool) -> dict[str, dict]:
    """A low-rank adapter into a base of one shard."""
    linears, results = shapes(quick), {}
    for layers in (1, 2, 4):
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            base, out = Path(scratch) / "base", Path(scratch) / "out"
            write_base(base, linears, layers)
            write_members(Path(scratch) / "of", linears, layers, 1, 64, np.float32)
            adapter = Path(scratch) / "of" / "member-0"
            command = ["export", "--base", str(base), "--adapter", str(adapter), "--out", str(out)]
            name = f"export, r = 64, layers in the one shard: {layers}"
            read = [*base.glob("*.safetensors"), *adapter.glob("*.safetensors")]
            largest = max(4 * i * o for i, o in linears.values())
            results[name] = measured(name, command, read, out, largest)
    return results


def main() -> None:
    """Everything, then one JSON line."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--scratch", type=Path, default=None, help="where to write the files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as root:
        results = exports(Path(root), args.quick) | fusions(Path(root), args.quick)
    print(json.dumps({"bench": "large_fusion", "runs": results}))


if __name__ == "__main__":
    main()
