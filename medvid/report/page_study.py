"""The page of a slice-context study."""

STUDY = """{% extends "frame" %}
{% import "macros" as show %}{% import "record" as part %}{% import "player" as play %}
{% block body %}
<p>{{ design }}</p>
{{ show.contents(contents) }}
<h2 id="curve">Performance by context</h2>
{{ show.figures(figures, ["context"]) }}
<div class="wide"><table>
<caption>The same network, {% if same_evidence %}the same evidence, {% endif %}another window.
{{ rule }}</caption>
<thead><tr><th>Window</th><th class="number">mm</th><th class="number">{{ metric }}</th>
<th class="number">{{ level }} interval</th><th class="number">mean of the folds</th>
<th class="number">seeds</th><th class="number">log loss</th><th class="number">Brier</th>
<th></th></tr></thead><tbody>
{% for row in windows %}<tr class="{{ 'chosen' if row.chosen }}"><th>{{ row.title }}</th>
<td class="number">{{ row.mm }}</td><td class="number">{{ row.value }}</td>
<td class="number">{{ row.interval }}</td><td class="number">{{ row.folds }}</td>
<td class="number">{{ row.seeds }}</td><td class="number">{{ row.log_loss }}</td>
<td class="number">{{ row.brier }}</td><td>{{ row.mark }}</td></tr>{% endfor %}
</tbody></table></div>

<h2 id="differences">Differences</h2>
{{ show.figures(figures, ["differences"]) }}
<div class="wide"><table>
<caption>Paired, of {{ patients }}; windows against the smallest one, controls against the widest. p
is adjusted by Holm within each family.</caption>
<thead><tr><th>Arm</th><th>against</th><th class="number">Difference</th>
<th class="number">{{ level }} interval</th><th class="number">p</th>
<th class="number">adjusted p</th><th>Verdict</th></tr></thead><tbody>
{% for row in differences %}<tr><th>{{ row.a }}</th><td>{{ row.b }}</td>
<td class="number">{{ row.difference }}</td><td class="number">{{ row.interval }}</td>
<td class="number">{{ row.p }}</td><td class="number">{{ row.adjusted }}</td>
<td>{{ row.verdict }}</td></tr>{% endfor %}
</tbody></table></div>
{% if delong %}<p class="quiet">{{ delong }}</p>{% endif %}

{% if controls %}<h2 id="controls">Controls</h2>
<div class="wide"><table><thead><tr><th>Control</th><th>What it sees</th>
<th class="number">{{ metric }}</th><th class="number">{{ level }} interval</th><th>Expected</th>
<th>Found</th></tr></thead><tbody>
{% for row in controls %}<tr><th>{{ row.title }}</th><td>{{ row.says }}</td>
<td class="number">{{ row.value }}</td><td class="number">{{ row.interval }}</td>
<td>{{ row.expected }}</td><td>{{ show.verdict(row.met) }}
{% if row.sentence %}<span class="quiet">{{ row.sentence }}</span>{% endif %}</td>
</tr>{% endfor %}</tbody></table></div>{% endif %}

<h2 id="stability">How firm the answer is</h2>
{{ show.figures(figures, ["distribution", "learning"]) }}
{% if learning_note %}<p>{{ learning_note }}</p>{% endif %}
{% if planned %}<p>{{ planned }}</p>{% endif %}

{% if networks %}<h2 id="networks">Natural networks</h2>
<div class="wide"><table>
<caption>Each network as it is used, not matched: a difference may come from its size as well.
</caption><thead><tr><th>Network</th><th>What it sees</th><th class="number">{{ metric }}</th>
<th class="number">{{ level }} interval</th><th class="number">Parameters</th>
<th class="number">FLOPs</th><th class="number">s an epoch</th></tr></thead><tbody>
{% for row in networks %}<tr><th>{{ row.title }}</th><td>{{ row.says }}</td>
<td class="number">{{ row.value }}</td><td class="number">{{ row.interval }}</td>
<td class="number">{{ row.parameters }}</td><td class="number">{{ row.flops }}</td>
<td class="number">{{ row.seconds }}</td></tr>{% endfor %}</tbody></table></div>{% endif %}

<h2 id="arms">Every arm that was run</h2>
<div class="wide"><table><thead><tr><th>Arm</th><th>What it sees</th><th>Network</th>
<th class="number">{{ metric }}</th><th class="number">Cells</th><th class="number">Steps</th>
<th class="number">Parameters</th><th class="number">FLOPs</th><th class="number">s an epoch</th>
</tr></thead><tbody>
{% for row in arms %}<tr><th>{{ row.name }}</th><td>{{ row.says }}</td><td>{{ row.model }}</td>
<td class="number">{{ row.value }}</td><td class="number">{{ row.cells }}</td>
<td class="number">{{ row.steps }}</td><td class="number">{{ row.parameters }}</td>
<td class="number">{{ row.flops }}</td><td class="number">{{ row.seconds }}</td></tr>{% endfor %}
</tbody></table></div>

{% if "roc" in figures %}<h2 id="curves">ROC, precision, calibration, decisions</h2>
{{ show.figures(figures, ["roc", "pr", "reliability", "decision"]) }}{% endif %}

{% if subgroups %}<h2 id="subgroups">Subgroups</h2>
<div class="wide"><table><thead><tr><th>Group</th><th></th><th class="number">n</th>
<th>Arm</th><th class="number">AUC</th><th class="number">{{ level }} interval</th></tr></thead>
<tbody>{% for row in subgroups %}<tr><th>{{ row.column }}</th><td>{{ row.of }}</td>
<td class="number">{{ row.n }}</td><td>{{ row.arm }}</td><td class="number">{{ row.value }}</td>
<td class="number">{{ row.interval }}</td></tr>{% endfor %}</tbody></table></div>{% endif %}

{% if confusion %}<h2 id="decisions">Decisions of {{ decided_arm }}</h2>
{{ show.confusion(classes, confusion, decided) }}
{% for note in decision_notes %}<p class="quiet">{{ note }}</p>{% endfor %}{% endif %}

<h2 id="failures">Failures and flipped cases</h2>
{% if mistakes %}<h3>Errors of {{ mistaken_arm }}</h3>{{ show.mistakes(mistakes, positive) }}
{% endif %}
{% if flipped %}<h3>Cases that the context changes most</h3>
<div class="wide"><table><thead><tr><th>Case</th>
<th>True class</th><th class="number">{{ narrow }}</th><th class="number">{{ wide }}</th>
<th class="number">Change</th><th></th></tr></thead><tbody>
{% for row in flipped %}<tr><th>{{ row.case }}</th><td>{{ row.label }}</td>
<td class="number">{{ row.narrow }}</td><td class="number">{{ row.wide }}</td>
<td class="number">{{ row.change }}</td><td>{{ row.way }}</td></tr>{% endfor %}
</tbody></table></div>
<p class="quiet">Probability of {{ positive or "the true class" }} in the smallest and in the widest
window.</p>
{% endif %}
{{ play.gallery(gallery) }}

{{ part.cases(record, figures) }}

<h2 id="registration">Registration</h2>
<p>{{ registered }}</p>
{% if deviations %}<p>Deviations from what was registered:</p>
<ul>{% for line in deviations %}<li>{{ line }}</li>{% endfor %}</ul>
{% else %}<p>No deviation from what was registered is on record.</p>{% endif %}
{{ part.checklist(record.checklist) }}
{{ part.provenance(record) }}
{% endblock %}
{% block script %}{{ play.script(gallery, script) }}{% endblock %}
"""
