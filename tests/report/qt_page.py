"""Prints a page's HTML after its script has written an answer: ``python qt_page.py ADDRESS``."""

import sys

LIBRARY_MISSING = 5
EVERY = 100
"""Milliseconds between two looks."""

try:
    from PySide6.QtCore import QTimer, QUrl
    from PySide6.QtWebEngineCore import QWebEnginePage
    from PySide6.QtWidgets import QApplication
except ImportError as error:  # not installed, or a system library of its is not
    print(error, file=sys.stderr)
    sys.exit(LIBRARY_MISSING)

ANSWERED = "document.getElementById('found')?.textContent.length > 0"

app = QApplication(["page"])
page = QWebEnginePage()
timer = QTimer()


def print_and_quit(html):
    print(html)
    app.quit()


def look():
    page.runJavaScript(ANSWERED, 0, lambda yes: page.toHtml(print_and_quit) if yes else None)


timer.timeout.connect(look)
timer.start(EVERY)
page.load(QUrl(sys.argv[1]))
app.exec()
