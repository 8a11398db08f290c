"""The part that a run's and a study's page share: cases, checklist, settings, versions."""

RECORD = """{% import "macros" as show %}
{% macro cases(record, figures) %}
<h2 id="cases">Cases</h2>
<p>{{ record.counted }}</p>
<p>{{ record.partition }}</p>
{{ show.figures(figures, ["flow"]) }}
{% if record.refused %}<p>{{ record.refused_total }} refused and left out:</p>
<div class="wide"><table><thead><tr><th>Reason code</th><th class="number">Cases</th>
<th>First one's reason</th></tr></thead><tbody>
{% for item in record.refused %}<tr><td>{{ item.code }}</td><td class="number">{{ item.n }}</td>
<td>{{ item.reason }}</td></tr>{% endfor %}</tbody></table></div>
{% else %}<p>No case was refused.</p>{% endif %}
{% set table = record.table_one %}
{% if table.columns %}<h3>Characteristics by partition</h3>
<div class="wide"><table><thead><tr><th>Characteristic</th>
{% for name in table.columns %}<th class="number">{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in table.rows %}<tr><th class="{{ 'inner' if row.inner }}">{{ row.name }}</th>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>{% endif %}
{% for note in table.notes %}<p class="quiet">{{ note }}</p>{% endfor %}
{% endmacro %}

{% macro checklist(items) %}
<h2 id="checklist">Reporting checklist</h2>
<p class="quiet">Topics of CLAIM 2024 (C) and TRIPOD+AI (T) in our own words; the published
checklists hold the exact wording and numbers. A ticked box is filled from the files of this folder;
an open one is for the authors.</p>
<div class="wide"><table><thead><tr><th>Done</th><th>Topic</th><th>Asked by</th>
<th>What is known here</th></tr></thead><tbody>
{% for item in items %}<tr><td><span class="box" role="img"
aria-label="{{ 'filled' if item.done else 'open' }}">
{%- if item.done %}&#9745;{% else %}&#9744;{% endif %}</span></td><td>{{ item.topic }}</td>
<td>{{ item.asked }}</td><td>{{ item.known }}</td></tr>{% endfor %}
</tbody></table></div>
{% endmacro %}

{% macro provenance(record) %}
{% if record.settings %}<h2 id="settings">Settings</h2>
{% if record.command %}<p>Started as <code>{{ record.command }}</code></p>{% endif %}
<pre>{{ record.settings }}</pre>{% endif %}
{% if record.environment %}<h2 id="versions">Versions</h2><div class="wide"><table><tbody>
{% for name, value in record.environment %}<tr><th>{{ name }}</th>
<td><code>{{ value }}</code></td></tr>{% endfor %}
</tbody></table></div>{% endif %}
{% endmacro %}
"""
