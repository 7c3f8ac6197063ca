"""A page in a real browser without a window, measured at several widths.

Any Chromium on the path, else Qt's, which ``pip install PySide6_WebEngine`` brings. The page lies
in frames, whose widths a page takes for the screen's.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HERE = Path(__file__).parent
FOUND = re.compile(r'<pre id="found">(.+?)</pre>', re.DOTALL)
SECONDS = 120
LIBRARY_MISSING = 5
"""Exit status of ``qt_page.py`` where Qt cannot be loaded."""


class NoBrowser(Exception):
    """There is none here, or it does not start; says why."""


def measure(page, folder, widths, *, dark):
    """What ``measure.js`` finds in a frame of each width.

    Args:
        page: HTML text.
        folder: for the browser's files.
        widths: of the frames, CSS pixels.
        dark: whether the reader prefers dark pages.

    Raises:
        NoBrowser: there is none, or it gives no answer.
    """
    (folder / "page.html").write_text(page)
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:800px" src="page.html"></iframe>'
        for width in widths
    )
    script = (HERE / "measure.js").read_text()
    (folder / "host.html").write_text(
        f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>{frames}'
        f"<script>{script}</script>"
    )
    # Blink's own setting, by which both browsers take a colour scheme: 0 is dark.
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    # Served, as a script may not look into frames of files.
    with _served(folder) as address:
        dumped = _dump(f"{address}/host.html", folder, scheme)
    match = FOUND.search(dumped)
    if match is None:
        raise NoBrowser(f"the browser gave no answer: {dumped[-300:]}")
    found = json.loads(unescape(match[1]))
    assert isinstance(found, list), found
    return found


@contextmanager
def _served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _dump(host, folder, more):
    if path := next(filter(None, map(shutil.which, NAMES)), None):
        flags = ["--headless", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        waiting = "--virtual-time-budget=20000"
        return _run([path, *flags, *more.split(), waiting, "--dump-dom", host], {})
    settings = {
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_CHROMIUM_FLAGS": f"--disable-gpu {more}",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",
    }
    return _run([sys.executable, str(HERE / "qt_page.py"), host], settings)


def _run(words, settings):
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=SECONDS, env=os.environ | settings
        )
    except subprocess.TimeoutExpired:
        raise NoBrowser(f"{words[0]} gave no answer within {SECONDS} seconds") from None
    if done.returncode == LIBRARY_MISSING:
        raise NoBrowser(f"no Chromium on the path, and Qt's: {done.stderr.strip()}")
    if done.returncode:
        raise NoBrowser(f"{words[0]} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout
