"""What the answers are worth: checking, per-example matrices, paired statistics."""
