"""How the pages look: light and dark, on a screen and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --quiet: #57606a; --line: #d5d9de;
        --band: #f3f6f9; --accent: #0072b2; --good: #00664a; --bad: #a8400a; --tint: none; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #161616;
  --quiet: #a3a9b0; --line: #383d44; --band: #1f2328; --accent: #56b4e9; --good: #4cc9a0;
  --bad: #f0954f;
  /* white paper of the figures becomes the page's black; turning the hue back keeps the colours */
  --tint: invert(.914) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 2.2rem auto; max-width: 62rem; padding: 0 1.2rem; color: var(--ink);
       background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
     border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
.answer { font-size: 1.2rem; line-height: 1.45; background: var(--band); padding: .9rem 1.1rem;
          border-radius: .4rem; border-left: .35rem solid var(--accent); max-width: none; }
nav { font-size: .875rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .8rem 0; }
.quiet, figcaption, footer { color: var(--quiet); font-size: .875rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { caption-side: top; text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; }
th { font-weight: 600; } tbody th { font-weight: 400; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.chosen > * { background: var(--band); font-weight: 600; }
td.inner, th.inner { padding-left: 1.2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem; margin: .8rem 0; }
figure { margin: 0; max-width: 100%; width: 23.5rem; }
figure.wide-figure { width: 100%; }
figure img { max-width: 100%; width: 100%; height: auto; filter: var(--tint); }
pre { background: var(--band); padding: .8rem; overflow-x: auto; font-size: .8rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
.box { font-size: 1.1rem; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .6rem; }
.players { display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr));
           gap: 1rem; margin: .6rem 0 1rem; }
.player { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; min-width: 0; }
.player:focus-visible, .player :focus-visible { outline: 2px solid var(--accent);
                                                outline-offset: 2px; }
.player h4 { margin: 0; font-size: .9rem; overflow-wrap: anywhere; }
.player p { margin: 0 0 .3rem; font-size: .8rem; }
.player canvas { width: 100%; height: auto; display: block; background: #000;
                 border-radius: .2rem; cursor: ns-resize; }
.player canvas.strip { height: 2.6rem; background: none; cursor: pointer; margin-top: .3rem; }
.player .keys { display: flex; gap: .3rem; align-items: center; }
.player .keys input { flex: 1; min-width: 0; accent-color: var(--accent); }
.player button { font: inherit; font-size: .85rem; padding: 0 .5rem; border-radius: .25rem;
  border: 1px solid var(--line); background: var(--band); color: var(--ink); cursor: pointer; }
.player output { font-size: .8rem; color: var(--quiet); display: block; min-height: 1.2rem; }
@media print { :root { --ink: #000; --paper: #fff; --quiet: #444; --line: #bbb; --band: #f4f4f4; }
  @page { margin: 15mm; }
  body { margin: 0; padding: 0; max-width: none; font-size: 9.5pt; }
  nav, .keys, .no-print { display: none !important; }
  h2, h3 { break-after: avoid; } tr, figure, .player { break-inside: avoid; }
  .players { grid-template-columns: repeat(4, 1fr); }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } .wide { overflow: visible; }
  table { font-size: 8.5pt; } th, td { padding-right: .6rem; }
  .answer { print-color-adjust: exact; } }
"""
