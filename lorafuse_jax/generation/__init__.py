"""Decoding for many adapters at once: they are an axis of one batch over one base."""
