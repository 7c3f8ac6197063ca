"""Many devices: the mesh, where each array lies on it, and the start of many hosts."""
