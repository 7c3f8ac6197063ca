"""Batched decoding with a key/value cache, over an adapter axis."""
