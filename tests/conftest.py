"""Settings of the test run: they must be made before jax is imported."""

import os

# OpenBLAS and XLA would contend for the same cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests compile hundreds of small programs and run each once or twice.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
