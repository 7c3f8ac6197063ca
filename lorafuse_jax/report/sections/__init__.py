"""The parts of the page, one a file: data in, HTML out."""
