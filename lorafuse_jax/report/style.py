"""How the page looks, in light and in dark, on a phone and on a desk; one table of colours."""

LIGHT = {
    "paper": "#ffffff",
    "mark": "#f3f5f8",
    "line": "#d8dce3",
    "ink": "#1b1f26",
    "soft": "#565e6b",
    "link": "#1f5fa8",
    "good": "#1d7438",
    "bad": "#b3261e",
    "base": "#5f6773",
    "seed": "#2f69ad",
    "fused": "#b1480f",
    "vote": "#6f3fa8",
    "warm": "#d0602a",
    "cold": "#3a76bd",
    "s0": "#2f69ad",
    "s1": "#2b7a3f",
    "s2": "#7a4bb5",
    "s3": "#86600a",
    "s4": "#0f7480",
    "s5": "#b02a5b",
    "s6": "#5f6773",
    "s7": "#94461f",
}
DARK = {
    "paper": "#14171c",
    "mark": "#1e232b",
    "line": "#363d48",
    "ink": "#e7e9ed",
    "soft": "#a4acb9",
    "link": "#8ab8f0",
    "good": "#6cc287",
    "bad": "#f28b82",
    "base": "#9aa3b0",
    "seed": "#7fb0ea",
    "fused": "#f0915b",
    "vote": "#c3a1ee",
    "warm": "#e07a45",
    "cold": "#5b97de",
    "s0": "#7fb0ea",
    "s1": "#74c78a",
    "s2": "#c3a1ee",
    "s3": "#d9b35a",
    "s4": "#63c3cd",
    "s5": "#f08cb0",
    "s6": "#a8b0bc",
    "s7": "#e0a080",
}
SERIES = tuple(f"s{number}" for number in range(8))
TEXT = ("ink", "soft", "link", "good", "bad", "base", "seed", "fused", "vote", *SERIES)
"""What letters are set in; legible on paper and on mark."""
SHADE = 0.42
"""The strongest that a cell of a heat table is coloured, so that its number stays legible."""

RULES = """
*, *::before, *::after { box-sizing: border-box }
html { color-scheme: light dark; scroll-padding-top: .8rem; -webkit-text-size-adjust: 100% }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; margin: 0;
  color: var(--ink); background: var(--paper) }
.page { max-width: 74rem; margin: 0 auto; padding: 1.8rem clamp(.9rem, 3vw, 2rem) 4rem }
p, ul { margin: .6rem 0; max-width: 46rem } ul { padding-left: 1.3rem }
h1, h2, h3, h4 { line-height: 1.25; text-wrap: balance; overflow-wrap: anywhere }
h1 { font-size: 1.75rem; margin: 0 0 .3rem; letter-spacing: -.01em }
h2 { font-size: 1.3rem; margin: 3rem 0 .8rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line) }
h3 { font-size: 1.06rem; margin: 2.2rem 0 .5rem }
h4 { font-size: .95rem; margin: 1.6rem 0 .4rem }
a { color: var(--link); text-underline-offset: .15em }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px }
.skip { position: absolute; left: -999rem } .skip:focus { position: static }
.lead { color: var(--soft); margin-top: 0 }
.note { color: var(--soft); font-size: .82rem; line-height: 1.5; margin: .45rem 0 1.2rem }
nav { background: var(--mark); border-radius: 8px; padding: .7rem 1rem; margin: 1.2rem 0;
  font-size: .9rem }
nav ul { margin: 0; max-width: none; padding: 0; list-style: none; display: flex;
  flex-wrap: wrap; gap: .2rem 1.1rem }
nav > ul > li:has(ul) { flex-basis: 100% }
nav ul ul { padding-left: 1rem; display: inline-flex; font-size: .95em }
nav a { display: inline-block; padding: .15rem 0 }
.verdict { background: var(--mark); border-left: 4px solid var(--fused);
  border-radius: 0 8px 8px 0; padding: .5rem 1.1rem; margin: 1rem 0 1.4rem }
.verdict p { max-width: 56rem; font-size: .92rem }
.verdict p.headline { font-size: 1.06rem; font-weight: 600 } .verdict h3 { margin: .6rem 0 0 }

.wide { overflow-x: auto; margin: 1rem 0 .3rem; max-width: 100%;
  /* A shadow at the right for as long as there is more to scroll to. */
  background: linear-gradient(90deg, transparent, var(--paper) 60%) 100% 0 / 3rem 100% no-repeat
    local, linear-gradient(90deg, transparent, var(--line)) 100% 0 / .9rem 100% no-repeat scroll }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; min-width: 100%;
  font-variant-numeric: tabular-nums }
caption { text-align: left; padding: 0 0 .45rem; font-weight: 600 }
caption span { position: sticky; left: 0; display: inline-block;
  max-width: min(46rem, calc(100vw - 2.2rem)) }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; vertical-align: baseline;
  border-bottom: 1px solid var(--line) }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal;
  border-bottom: 2px solid var(--line) }
thead th[scope=colgroup] { text-align: center; border-bottom-width: 1px }
tbody th { font-weight: 500; white-space: normal; overflow-wrap: break-word; min-width: 8rem }
th.text { text-align: left }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper);
  z-index: 1; max-width: 44vw }
tr.base > *, tr.union > * { color: var(--soft) } tr.mean-seed > * { background: var(--mark) }
tr.best-seed > *, tr.vote > *, tr.base > * { border-bottom-color: var(--soft) }
td.best, td.sure { font-weight: 700 } td.text { text-align: left; white-space: normal;
  min-width: 11rem; overflow-wrap: anywhere }
td.up { color: var(--good) } td.down { color: var(--bad) }
table.heat td, table.heat thead th + th { text-align: center; min-width: 3.9rem }
table.heat thead th { font-size: .8rem; line-height: 1.3 }
td.warm { background: color-mix(in srgb, var(--warm) calc(var(--shade) * SHADE%), var(--paper)) }
td.cold { background: color-mix(in srgb, var(--cold) calc(var(--shade) * SHADE%), var(--paper)) }

figure { margin: 1.2rem 0 } figcaption { font-weight: 600; font-size: .875rem;
  margin-bottom: .5rem }
svg { display: block; overflow: visible } svg text { fill: var(--soft); font-size: 12px }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  background: var(--c); margin-right: .35em; vertical-align: -.05em }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; padding: 0; margin: .3rem 0;
  list-style: none; font-size: .82rem; max-width: none }
.bars { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr max-content;
  grid-auto-flow: dense; column-gap: .9rem; align-items: center; font-size: .84rem;
  font-variant-numeric: tabular-nums }
.bars .name { overflow-wrap: break-word; max-width: 20rem; grid-column: 1 }
.bars .value { text-align: right; grid-column: 3 } .bars .drawn { grid-column: 2 }
.bars svg { width: 100%; height: 1.7rem } .bars svg.axis { height: 1.4rem }
.strips { row-gap: 2px } .strips .drawn { height: 1.15rem }
.axes { margin-left: 3.1rem } .axes svg.axis { width: 100%; height: 1.4rem }
.grid { stroke: var(--line); stroke-width: 1 }
.mark { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 3 3 }
.kind-base { --c: var(--base) } .kind-seed, .kind-best-seed { --c: var(--seed) }
.kind-mean-seed { --c: var(--ink) } .kind-fused { --c: var(--fused) }
.kind-vote, .kind-ensemble { --c: var(--vote) } .kind-control { --c: var(--s1) }
.kind-union { --c: var(--base) }
SERIES
.bar { stroke: var(--c); stroke-width: 2.5; stroke-linecap: round } .dot { fill: var(--c) }
.chart { width: 100%; height: 17rem } .chart polyline { fill: none; stroke: var(--c);
  stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round }
.chart .thin { stroke-width: 1; opacity: .55 } .chart .dashed { stroke-dasharray: 6 4 }
.triangle { width: min(100%, 24rem); height: auto }
.cell-warm { fill: var(--warm) } .cell-cold { fill: var(--cold) }

details { border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0 }
summary { padding: .5rem .8rem; cursor: pointer; overflow-wrap: anywhere }
details[open] > summary { border-bottom: 1px solid var(--line) }
details > :not(summary) { margin-left: .8rem; margin-right: .8rem }
details.plain { border: 0 } details.plain > summary { padding: .2rem 0; color: var(--link);
  font-size: .875rem } details.plain > :not(summary) { margin-left: 0; margin-right: 0 }
details.plain[open] > summary { border: 0 }
summary .soft { font-size: .85rem } .soft { color: var(--soft) }
pre { font: .8rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: .3rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere }
.prompt, .command { background: var(--mark); padding: .6rem .8rem; border-radius: 6px }
.said { display: grid; gap: .8rem; padding: .3rem 0 .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr)) }
.said > div { border-top: 3px solid var(--c); padding-top: .35rem; min-width: 0 }
.said h5 { margin: 0; font-size: .85rem; overflow-wrap: anywhere } .said p { margin: .1rem 0;
  font-size: .82rem; overflow-wrap: anywhere }
.right { --c: var(--good) } .wrong { --c: var(--bad) }
.right .word, .wrong .word { color: var(--c); font-weight: 600 }
.right .word::before { content: "\\2713\\a0" / "" }
.wrong .word::before { content: "\\2717\\a0" / "" }
.filter { border: 0; padding: 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .4rem }
.filter legend { padding: 0; font-size: .875rem; margin-bottom: .3rem }
.filter label { border: 1px solid var(--soft); border-radius: 99px; padding: .2rem .8rem;
  font-size: .85rem; cursor: pointer }
.filter label:has(:checked) { background: var(--ink); color: var(--paper);
  border-color: var(--ink) }
.filter label:has(:focus-visible) { outline: 2px solid var(--link); outline-offset: 2px }
.filter input { position: absolute; opacity: 0; width: 0; height: 0 }
[hidden] { display: none !important }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1.1rem;
  font-size: .875rem; margin: .8rem 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
code { font: .92em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.ids a, .ids code { margin-right: .5em; display: inline-block }
@media (max-width: 40rem) {
  body { font-size: 15px } h1 { font-size: 1.4rem }
  .bars { grid-template-columns: 1fr max-content; row-gap: .1rem }
  .bars .name { max-width: none; margin-top: .3rem }
  .bars .value { grid-column: 2; margin-top: .3rem } .bars .drawn { grid-column: 1 / -1 }
  dl { grid-template-columns: minmax(0, 1fr) } dd { margin-bottom: .4rem }
}
@media print { .page { max-width: none } .filter, nav { display: none } }
"""


def _variables(colours: dict[str, str]) -> str:
    return ":root { " + "; ".join(f"--{name}: {value}" for name, value in colours.items()) + " }"


_SERIES_RULES = " ".join(f".{name} {{ --c: var(--{name}) }}" for name in SERIES)

STYLE = (
    f"{_variables(LIGHT)}\n@media (prefers-color-scheme: dark) {{ {_variables(DARK)} }}"
    + RULES.replace("SHADE", f"{100 * SHADE:.0f}").replace("SERIES", _SERIES_RULES)
)
