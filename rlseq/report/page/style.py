"""The style sheet of the page: light and dark, on a screen, a phone and paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --bg: #fff; --ink: #1b1e23; --muted: #5b636e; --rule: #d5dae1; --soft: #f3f5f8;
  --good: #17724a; --bad: #b3261e; --ins: #d7f2e0; --del: #fbdeda;
  --mle: #69727f; --reward: #1f5fa8;
  --a0: #bf560b; --a1: #0f766e; --a2: #8338a8; --a3: #8f6400; --a4: #b02358; --a5: #4d6b12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171b; --ink: #e4e7eb; --muted: #9da6b2; --rule: #343a43; --soft: #1d2127;
    --good: #63cf98; --bad: #ff8f84; --ins: #1d4630; --del: #57261f;
    --mle: #a3acb8; --reward: #6fb1ff;
    --a0: #f29b57; --a1: #4fcdb8; --a2: #cc97ec; --a3: #ddbb4b; --a4: #f38bb0; --a5: #a9cc6b;
  }
}
.arm-mle { --c: var(--mle); } .arm-reward { --c: var(--reward); }
.arm-0 { --c: var(--a0); } .arm-1 { --c: var(--a1); } .arm-2 { --c: var(--a2); }
.arm-3 { --c: var(--a3); } .arm-4 { --c: var(--a4); } .arm-5 { --c: var(--a5); }
.plain { --c: var(--ink); }

/* text */
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 4rem; background: var(--bg); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 3rem 0 .35rem; padding-top: .9rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 1.6rem 0 .3rem; }
h4 { font-size: .85rem; margin: 0 0 .3rem; color: var(--muted); font-weight: 600; }
p { margin: .35rem 0 .8rem; max-width: 44rem; }
small, .note, figcaption { color: var(--muted); font-size: .82rem; font-weight: 400; }
a { color: inherit; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
header p { color: var(--muted); margin-bottom: 1.6rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin-top: 1.5rem; font-size: .85rem; color: var(--muted); }
.badge {
  margin-left: .4rem; padding: .05rem .4rem; border: 1px solid var(--rule); border-radius: 1rem;
  color: var(--muted); font-size: .72rem; font-weight: 400; white-space: nowrap;
}
details { margin: .4rem 0; }
summary { cursor: pointer; font-size: .9rem; }

/* verdict */
.verdict {
  border-left: 5px solid var(--muted); border-radius: 0 6px 6px 0; background: var(--soft); padding: 1rem 1.25rem .4rem;
}
#verdict .verdict + .verdict { margin-top: 1rem; }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
.verdict h2 { border: 0; margin: 0; padding: 0; font-size: .9rem; font-weight: 600; color: var(--muted); }
.big { font-size: 2.6rem; line-height: 1.1; font-weight: 650; margin: .4rem 0 .1rem; letter-spacing: -.02em; }
.good .big { color: var(--good); } .bad .big { color: var(--bad); }
.big small { font-size: 1.1rem; letter-spacing: 0; }

/* tables */
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.35; }
th, td { padding: .32rem .9rem .32rem 0; text-align: right; white-space: nowrap; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 400; white-space: normal; min-width: 9rem; }
td small { display: block; }
@media (min-width: 54rem) { tbody th { white-space: nowrap; } }
.text { text-align: left; }
.significant :is(th, td:nth-child(2)) { font-weight: 650; }

/* charts */
figure { margin: .6rem 0 1rem; break-inside: avoid; }
.grid { display: grid; gap: .5rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.grid > * { min-width: 0; }
.grid h3 { margin: .8rem 0 0; }
.key {
  display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .4rem 0; padding: 0; list-style: none; font-size: .85rem;
}
i { display: inline-block; width: .7em; height: .7em; margin-right: .4em; border-radius: 50%; background: var(--c); }
svg { display: block; overflow: visible; font-size: 12.5px; }
svg text { fill: var(--ink); }
.tick { fill: var(--muted); font-size: 11.5px; }
.label .name { font-weight: 650; fill: var(--c); }
svg .grid { stroke: var(--rule); } .zero { stroke: var(--ink); }
.interval { stroke: var(--c); stroke-width: 9; opacity: .28; }
.mean { stroke: var(--c); stroke-width: 2.5; }
.point { fill: var(--c); stroke: var(--bg); stroke-width: 1; }
.stretched * { vector-effect: non-scaling-stroke; }
.curve { fill: none; stroke: var(--c); stroke-width: 1.75; stroke-linejoin: round; }
.many .curve { stroke-width: 1.2; opacity: .8; }
.band { fill: var(--c); opacity: .14; }

/* instances */
article { margin: 1rem 0 1.6rem; break-inside: avoid; }
.panels { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 11rem)); }
.panels figure { margin: 0; }
figcaption b { color: var(--c, var(--ink)); font-weight: 650; }
.panels + dl { margin-top: .5rem; }
.panels figure:has(.strip) { grid-column: 1 / -1; }
.panels figure:only-child:has(.picture) { grid-column: span 2; }
.hull, .picture { width: 100%; height: auto; border: 1px solid var(--rule); border-radius: 4px; }
.picture, .strip { image-rendering: pixelated; }
.strip .curve { stroke: var(--c, var(--ink)); }
.strip .reference { fill: none; stroke: var(--muted); stroke-width: 2; stroke-dasharray: 3 2; }
.hull .reference { fill: none; stroke: var(--muted); stroke-width: 1.4; stroke-dasharray: 3 2; }
.hull .output { fill: var(--c); fill-opacity: .12; fill-rule: evenodd; stroke: var(--c); stroke-width: 1.3; }
.hull .first { fill: none; stroke: var(--c); stroke-width: 1.1; }
.hull .corner { fill: var(--ink); }
.hull .name { font-size: 6px; fill: var(--muted); }
.attention rect { fill: var(--reward); }
.attention .axis { stroke: var(--rule); }
.veiled .name { font-size: 11px; }
dl {
  display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1.2rem;
  margin: 0; font-size: .9rem;
}
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
ins, del { border-radius: 3px; padding: 0 .15em; }
ins { background: var(--ins); text-decoration: none; border-bottom: 1px solid var(--good); }
del { background: var(--del); text-decoration: line-through; }

@media (max-width: 34rem) {
  body { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.35rem; }
  .big { font-size: 2rem; }
  .verdict tbody th { min-width: 0; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .panels { grid-template-columns: repeat(3, 1fr); gap: .5rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav { display: none; }
  .wide { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding-right: .6rem; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
