"""From lines of text to packed, masked arrays."""
