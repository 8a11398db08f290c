"""The page of two runs compared."""

COMPARISON = """{% extends "frame" %}{% import "macros" as show %}
{% block body %}
<p>Run A is {{ run_a }}, run B is {{ run_b }}; {{ counted }}</p>
{{ show.figures(figures, figures) }}
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
