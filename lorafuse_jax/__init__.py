"""Train N LoRA adapters at once, fuse them, and see with paired statistics whether it helped."""
