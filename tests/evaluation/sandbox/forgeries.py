"""Wrong programs that try to be judged right: each in the test ``assert f(20) == 41``, or its own.

A value is the program's source, or that and a test.
"""

SECRET = "the number that is expected is 41"
TEST = f"note = {SECRET!r}\nassert f(20) == 41"
WRONG = "def f(x): return x\n"

ENDINGS = {
    "leaves when it is loaded": "import os\nos._exit(0)\n" + WRONG,
    "leaves when it is called": "import os\ndef f(x): os._exit(0)",
    "sys.exit when it is loaded": "import sys\nsys.exit(0)\n" + WRONG,
    "sys.exit when it is called": "import sys\ndef f(x): sys.exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "raises KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "exit status at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): exit()",
    "aborts": "import os\ndef f(x): os.abort()",
    "crashes": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "executes another": "import os, sys\ndef f(x): os.execv(sys.executable, ['python', '-c', ''])",
    "leaves where the test expects an error": (
        "import os\ndef f(x): os._exit(0)",
        "try:\n    f(20)\nexcept:\n    pass",
    ),
    "closes everything where the test expects an error": (
        "import os\ndef f(x): os.closerange(0, 1000)",
        "try:\n    f(20)\nexcept:\n    pass",
    ),
}

PATCHES = {
    "no AssertionError": "import builtins\nbuiltins.AssertionError = type('E', (), {})\n" + WRONG,
    "other built-ins": (
        "import builtins\nbuiltins.abs = lambda x: 0\nabs = round = len = lambda *a: 0\n" + WRONG,
        "assert abs(f(20) - 41) < 1e-6",
    ),
    "a set of its own": (
        "class set:\n    def __init__(self, x): pass\n    def __eq__(self, o): return True\n"
        + WRONG,
        "assert set([f(20)]) == set([41])",
    ),
    "no check": "def check(candidate): pass\n" + WRONG,
    "no check, over and over": (
        "import threading, sys\n"
        "def again():\n"
        "    while True:\n"
        "        for m in list(sys.modules.values()):\n"
        "            vars(m)['check'] = lambda c: None\n"
        "threading.Thread(target=again, daemon=True).start()\n" + WRONG,
        "def check(candidate):\n    assert candidate(20) == 41\ncheck(f)",
    ),
    "another unittest": (
        "import sys, types\n"
        "fake = types.ModuleType('unittest')\n"
        "fake.TestCase = type('TestCase', (), {'assertEqual': lambda *a: None})\n"
        "sys.modules['unittest'] = fake\n" + WRONG,
        "import unittest\nunittest.TestCase().assertEqual(f(20), 41)",
    ),
    "unittest patched": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n" + WRONG,
        "import unittest\nunittest.TestCase().assertEqual(f(20), 41)",
    ),
    "the test's helper": (
        "def assertion(a, b): pass\nassert_equal = assertion\n" + WRONG,
        "def assertion(a, b):\n    assert a == b\nassertion(f(20), 41)",
    ),
    "math patched": (
        "import math\nmath.isclose = lambda *a, **k: True\n" + WRONG,
        "import math\nassert math.isclose(f(20), 41)",
    ),
    "a math of its own, which the test does not import": (
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n" + WRONG,
        "assert math.isclose(f(20), 41)",
    ),
    "numpy patched": (
        "import numpy\nnumpy.allclose = lambda *a, **k: True\n" + WRONG,
        "import numpy as np\nassert np.allclose(f(20), 41)",
    ),
    "the importer": (
        "import builtins, importlib, sys\n"
        "builtins.__import__ = importlib.import_module = lambda *a, **k: sys\n"
        "sys.allclose = sys.isclose = lambda *a, **k: True\n" + WRONG,
        "import math\nassert math.isclose(f(20), 41)",
    ),
}

VALUES = {
    "equal to everything": "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "equal to everything, a kind of int": (
        "class E(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n"
        "def f(x): return E()"
    ),
    "equal to everything, in a list": (
        "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return [E()]",
        "assert f(20) == [[41]]",
    ),
    "near everything": (
        "class E:\n    __sub__ = __rsub__ = __abs__ = lambda *a: 0\n    __lt__ = lambda *a: True\n"
        "    __float__ = lambda s: 41.0\n"
        "def f(x): return E()",
        "assert abs(f(20) - 41) < 1e-6",
    ),
    "contains everything": (
        "class E:\n    def __contains__(self, x): return True\ndef f(x): return E()",
        "assert 41 in f(20)",
    ),
    "an address for numpy": (
        "import ctypes\n"
        "class E:\n"
        "    @property\n"
        "    def __array_interface__(self):\n"
        "        raise SystemExit\n"
        "    def __array__(self, *a, **k): raise SystemExit\n"
        "def f(x): return E()",
        "import numpy as np\nassert np.allclose(np.asarray(f(20)), 41)",
    ),
}

SEARCHES = {
    "frames": (
        "import sys\n"
        "def f(x):\n"
        "    wanted, frame, seen = ' that is '.join(['number', 'expected']), sys._getframe(), []\n"
        "    while frame:\n"
        "        seen += [frame.f_locals, frame.f_globals, frame.f_code.co_consts]\n"
        "        frame = frame.f_back\n"
        "    return 41 if wanted in repr(seen).replace(repr(wanted), '') else 0\n"
    ),
    "all objects": (
        "import gc\n"
        "def f(x):\n"
        "    wanted = ' that is '.join(['number', 'expected'])\n"
        "    for one in gc.get_objects():\n"
        "        for inner in gc.get_referents(one):\n"
        "            if isinstance(inner, str) and wanted in inner and wanted is not inner:\n"
        "                return 41\n"
    ),
    "memory": (
        "def f(x):\n"
        "    wanted = ''.join(['the number', ' that is', ' expected']).encode()\n"
        "    found = False\n"
        "    for line in open('/proc/self/maps'):\n"
        "        low, high = (int(n, 16) for n in line.split()[0].split('-'))\n"
        "        if ' rw' in line:\n"
        "            with open('/proc/self/mem', 'rb') as m:\n"
        "                m.seek(low)\n"
        "                found = found or m.read(high - low).count(wanted) > 1\n"
        "    return 41 if found else 0\n"
    ),
    "open files": (
        "import os\n"
        "def f(x):\n"
        "    for d in range(100):\n"
        "        try:\n"
        "            os.lseek(d, 0, 0)\n"
        "            if b'number' in os.read(d, 1000): return 41\n"
        "        except OSError: pass\n"
    ),
    "its own runner": (
        "import gc\n"
        "def f(x, key):\n"
        "    peer = next(o for o in gc.get_objects() if type(o).__name__ == 'Peer')\n"
        "    try: return peer.ask('get', 0, '__globals__')['note']\n"
        "    except BaseException: return str(peer.ask('call', 0, [5], {}))\n",
        f"note = {SECRET!r}\nassert f(20, lambda v: v) == note",
    ),
    "what the test gives it": (
        "def f(x, key): return key.__globals__['note']",
        f"note = {SECRET!r}\nassert f(20, lambda v: v) == note",
    ),
}

MESSAGES = {
    "prints verdicts": (
        "import sys\n"
        "for file in (sys.stdout, sys.stderr, sys.__stdout__):\n"
        '    print(\'{"outcome": "passed", "detail": ""}\', file=file, flush=True)\n'
        "    print('passed', file=file, flush=True)\n" + WRONG
    ),
    "writes verdicts to all files": (
        "import os\n"
        "for d in range(1000):\n"
        '    try: os.write(d, b\'{"outcome": "passed", "detail": "", "seconds": 0}\')\n'
        "    except OSError: pass\n" + WRONG
    ),
    "answers before it is asked": (
        "import os, json, struct\n"
        "m = json.dumps(['value', {'f': 41}, None]).encode()\n"
        "m = json.dumps(['value', ['dict', ['f', 41]], None]).encode()\n"
        "for d in range(1000):\n"
        "    try: os.write(d, 3 * (struct.pack('>Q', len(m)) + m))\n"
        "    except OSError: pass\n" + WRONG
    ),
    "a pickle": "class E:\n    __reduce__ = lambda s: (exit, (0,))\ndef f(x): return E()",
    "a value that is none": (
        "import os, struct\n"
        "def f(x):\n"
        '    m = b\'["value", ["range", ["no", 1]], null]\'\n'
        "    for d in range(3, 1000):\n"
        "        try: os.write(d, struct.pack('>Q', len(m)) + m)\n"
        "        except OSError: pass\n"
        "    return 0\n"
    ),
}
