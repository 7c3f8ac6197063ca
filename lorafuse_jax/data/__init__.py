"""From lines of text to packed, masked arrays.

No data-loading library stands between them: a batch is a function of its step's number
(``loader``), so there is no iterator whose state a checkpoint would have to hold, and the next one
is packed while a step runs.
"""
