"""What runs in the sandbox's own processes: standard library only, and relative imports only.

These files are loaded by a bare interpreter without ``lorafuse_jax``, so that a program costs no
import of JAX; it begins in ``warden``.
"""
