"""What fits: machines by name, and what a program compiled for one takes of it."""
