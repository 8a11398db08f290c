"""The report's pages as jinja2 templates: no script, no network, light and dark, printable."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --quiet: #595959; --line: #d0d0d0;
        --band: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --quiet: #a8a8a8;
        --line: #3c4046; --band: #20242a; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 58rem; padding: 0 1.2rem; color: var(--ink);
       background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.answer { font-size: 1.15rem; background: var(--band); padding: .8rem 1rem; border-radius: .4rem;
          border-left: .3rem solid #0072b2; }
.quiet, figcaption, footer { color: var(--quiet); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; max-width: 100%; }
/* the figures are drawn for paper, so they keep a white ground on a dark page */
figure img { background: #fff; max-width: 100%; border-radius: .3rem; }
pre { background: var(--band); padding: .8rem; overflow-x: auto; font-size: .8rem; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .6rem; }
@media print { :root { --ink: #000; --paper: #fff; --quiet: #444; --line: #bbb; --band: #f4f4f4; }
  body { margin: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
  table, figure { break-inside: avoid; } pre { white-space: pre-wrap; } }
"""

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="answer">{{ answer }}</p>
{% block body %}{% endblock %}
<footer>Made by medvid {{ version }}. Not a medical device: for research only.</footer>
</body>
</html>
"""

MACROS = """
{% macro figures(items) %}{% if items %}<div class="figures">
{% for item in items %}<figure><img src="{{ item.source }}" alt="{{ item.caption }}" width="380">
<figcaption>{{ item.caption }}</figcaption></figure>{% endfor %}</div>{% endif %}{% endmacro %}
{% macro measures(rows, level) %}<div class="wide"><table>
<thead><tr><th>Metric</th><th class="number">Value</th><th class="number">{{ level }} interval</th>
<th class="number">n</th><th>Note</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.name }}</td><td class="number">{{ row.value }}</td>
<td class="number">{{ row.interval }}</td><td class="number">{{ row.n }}</td>
<td class="quiet">{{ row.reason }}</td></tr>
{% endfor %}</tbody></table></div>{% endmacro %}
"""

RUN = """{% extends "frame" %}{% import "macros" as show %}
{% block body %}
<h2>Performance</h2>
{{ show.measures(rows, level) }}
<p class="quiet">{{ method }}</p>
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
{{ show.figures(figures) }}
{% if confusion %}<h2>Decisions</h2>
<p class="quiet">{{ decided }}</p>
<div class="wide"><table><thead><tr><th>True class</th>
{% for name in classes %}<th class="number">called {{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for counts in confusion %}<tr><td>{{ classes[loop.index0] }}</td>
{% for count in counts %}<td class="number">{{ count }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>{% endif %}
{% for name, part in per_class %}<h2>{{ name }}</h2>{{ show.measures(part, level) }}{% endfor %}
<h2>Cases</h2>
<p>{{ counted }}</p>
<p>{{ partition }}</p>
{% if refused %}<p>{{ refused_total }} refused and left out:</p>
<div class="wide"><table><thead><tr><th>Reason code</th><th class="number">Cases</th>
<th>First one's reason</th></tr></thead><tbody>
{% for item in refused %}<tr><td>{{ item.code }}</td><td class="number">{{ item.n }}</td>
<td>{{ item.reason }}</td></tr>{% endfor %}</tbody></table></div>
{% else %}<p>No case was refused.</p>{% endif %}
{% if settings %}<h2>Settings</h2><pre>{{ settings }}</pre>{% endif %}
{% if environment %}<h2>Versions</h2><div class="wide"><table><tbody>
{% for name, value in environment %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}
</tbody></table></div>{% endif %}
{% endblock %}
"""

COMPARISON = """{% extends "frame" %}{% import "macros" as show %}
{% block body %}
<p>Run A is {{ run_a }}, run B is {{ run_b }}; {{ counted }}</p>
{{ show.figures(figures) }}
<h2>Paired differences</h2>
<div class="wide"><table><thead><tr><th>Metric</th><th class="number">A</th>
<th class="number">B</th><th class="number">A - B</th><th class="number">{{ level }} interval</th>
<th class="number">p</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.name }}</td><td class="number">{{ row.a }}</td>
<td class="number">{{ row.b }}</td><td class="number">{{ row.difference }}</td>
<td class="number">{{ row.interval }}</td><td class="number">{{ row.p }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="quiet">{{ method }}</p>
{% if delong %}<p class="quiet">{{ delong }}</p>{% endif %}
{% endblock %}
"""

TEMPLATES = {"frame": FRAME, "macros": MACROS, "run": RUN, "comparison": COMPARISON}
