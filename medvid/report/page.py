"""What all pages have in common, as jinja2 templates. The report fetches nothing from anywhere."""

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p class="answer">{{ answer }}</p>
</header>
<main>
{% block body %}{% endblock %}
</main>
<footer>Made by medvid {{ version }}. Not a medical device: for research only.</footer>
{% block script %}{% endblock %}
</body>
</html>
"""

MACROS = """
{% macro figure(items, key) %}{% if key in items %}{% set item = items[key] %}
<figure class="{{ item.wide }}" id="figure-{{ key }}">
<img src="{{ item.source }}" alt="{{ item.caption }}">
<figcaption><b>Figure {{ item.number }}.</b> {{ item.caption }}</figcaption></figure>
{% endif %}{% endmacro %}

{% macro figures(items, keys) %}
<div class="figures">{% for key in keys %}{{ figure(items, key) }}{% endfor %}</div>
{% endmacro %}

{% macro measures(rows, level) %}<div class="wide"><table>
<thead><tr><th>Metric</th><th class="number">Value</th><th class="number">{{ level }} interval</th>
<th class="number">n</th><th>Note</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.name }}</td><td class="number">{{ row.value }}</td>
<td class="number">{{ row.interval }}</td><td class="number">{{ row.n }}</td>
<td class="quiet">{{ row.reason }}</td></tr>
{% endfor %}</tbody></table></div>{% endmacro %}

{% macro contents(items) %}<nav aria-label="Contents">
{% for key, name in items %}<a href="#{{ key }}">{{ name }}</a>{% endfor %}
</nav>{% endmacro %}

{% macro verdict(met) %}{% if met %}<span class="good">&#10003; as expected</span><br>
{% elif met is not none %}<span class="bad">&#10007; not as expected</span><br>
{% endif %}{% endmacro %}

{% macro confusion(classes, rows, decided) %}<p class="quiet">{{ decided }}</p>
<div class="wide"><table><thead><tr><th>True class</th>
{% for name in classes %}<th class="number">called {{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for counts in rows %}<tr><th>{{ classes[loop.index0] }}</th>
{% for count in counts %}<td class="number">{{ count }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>{% endmacro %}

{% macro mistakes(rows, positive) %}<div class="wide"><table>
<caption>The cases that were wrong with most confidence, to be looked at.</caption>
<thead><tr><th>Case</th><th>True class</th><th>Called</th>
<th class="number">Probability of {{ positive or "the called class" }}</th>
<th class="number">Fold</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.case }}</td><td>{{ row.label }}</td><td>{{ row.called }}</td>
<td class="number">{{ row.prob }}</td><td class="number">{{ row.fold }}</td></tr>{% endfor %}
</tbody></table></div>{% endmacro %}
"""
