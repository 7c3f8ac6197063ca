"""Decoders: a family-neutral model, its families, and how they are loaded."""
