"""Training: N adapters in one jitted step, each as if it were trained alone."""
