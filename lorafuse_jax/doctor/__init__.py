"""What this machine and its Python have for the tool: facts, and what would be slow or fail.

``packages`` imports nothing but ``packaging``, so that it also speaks where jax does not start.
"""
