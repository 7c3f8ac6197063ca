"""How the page looks, in light and in dark."""

STYLE = """
:root { --ink: #1c2026; --soft: #667; --line: #dde0e5; --paper: #fff; --mark: #f4f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --soft: #9aa0aa; --line: #333a44; --paper: #14171c; --mark: #1d222a; }
  svg { background: #fff; border-radius: 6px; }
}
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1060px; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { margin: 2.4rem 0 .6rem; font-size: 1.2rem }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%;
  font-size: 14px }
th { text-align: right; color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line) }
th, td { padding: .28rem .55rem; white-space: nowrap } td { text-align: right }
th:first-child, td:first-child { text-align: left; white-space: normal }
tr.base td, tr.union td { color: var(--soft) } tr.mean-seed td { background: var(--mark) }
td.best { font-weight: 700 }
tr.best-seed td, tr.vote td, tr.base td { border-bottom: 1px solid var(--line) }
.caption, .soft { color: var(--soft); font-size: 13px } svg { max-width: 100%; height: auto }
details { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem; margin: .6rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; font-size: 13px }
details p { margin: .7rem 0 0 } .prompt { background: var(--mark); padding: .5rem .7rem }
.verdict { background: var(--mark); border-left: 3px solid #d9622b; padding: .1rem .9rem;
  margin-bottom: 1rem } .verdict p { margin: .55rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 13px }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
.right::before { content: "\\2713 "; color: #2d8a4e }
.wrong::before { content: "\\2717 "; color: #c0392b }
"""
