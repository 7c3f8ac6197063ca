"""One verb a file: what the command line and the demo do, wired from the library's parts."""
