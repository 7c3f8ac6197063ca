"""One experiment at three scales: does fusing the seeds of one task help, against all controls?

``area`` says what is asked; ``command`` runs the steps. Groups of seeds are trained, and so is what
fusion is compared with; everything that has to be chosen is chosen on validation and written down;
only then are tests opened.
"""
