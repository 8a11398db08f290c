"""The page of a training run."""

RUN = """{% extends "frame" %}
{% import "macros" as show %}{% import "record" as part %}{% import "player" as play %}
{% block body %}
{{ show.contents(contents) }}
<h2 id="performance">Performance</h2>
{{ show.measures(rows, level) }}
<p class="quiet">{{ method }}</p>
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
{{ show.figures(figures, ["roc", "pr", "reliability", "decision"]) }}
{% if confusion %}<h2 id="decisions">Decisions</h2>
{{ show.confusion(classes, confusion, decided) }}{% endif %}
{% for name, part in per_class %}<h2>{{ name }}</h2>{{ show.measures(part, level) }}{% endfor %}
<h2 id="failures">Failures</h2>
{% if mistakes %}{{ show.mistakes(mistakes, positive) }}
{% elif unlisted %}<p>{{ unlisted }}</p>{% endif %}
{{ play.gallery(gallery) }}
{{ part.cases(record, figures) }}
{% if "training" in figures %}<h2 id="training">Training</h2>
{{ show.figures(figures, ["training"]) }}{% endif %}
{{ part.checklist(record.checklist) }}
{{ part.provenance(record) }}
{% endblock %}
{% block script %}{{ play.script(gallery, script) }}{% endblock %}
"""
