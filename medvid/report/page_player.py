"""The slice player: scrolls through the frames of a case, beside the score of every slice.

The frames lie in the page as one JPEG a case. A click on an arrow or on the strip of scores, the
slider, the wheel over the picture and the arrow keys move it. Without a script the page still
names the cases; on paper every player shows the slice that it stands at.
"""

PLAYER = """
{% macro gallery(gallery) %}
{% if gallery.cases %}
<h3>Cases to look at</h3>
<p class="quiet">{{ gallery.note }}</p>
{% if gallery.heat %}<p class="no-print"><label><input type="checkbox" id="heat" checked>
Show Grad-CAM over the slices</label></p>{% endif %}
<div class="players">
{% for case in gallery.cases %}
<div class="player" role="group" tabindex="0" data-case="{{ loop.index0 }}"
 aria-label="Slices of case {{ case.title }}">
<h4>{{ case.title }}</h4>
<p class="quiet">{{ case.group }}; {{ case.said }}</p>
<canvas class="picture" role="img" width="{{ case.width }}" height="{{ case.height }}"
 aria-label="{{ case.title }}"></canvas>
{% if case.scores %}<canvas class="strip" width="232" height="42" aria-hidden="true"
 title="{{ case.score_title }}, slice by slice"></canvas>{% endif %}
<div class="keys"><button type="button" class="back" aria-label="previous slice">&#9664;</button>
<input type="range" min="0" max="{{ case.frames - 1 }}" value="{{ case.start }}" step="1"
 aria-label="slice">
<button type="button" class="on" aria-label="next slice">&#9654;</button></div>
<output aria-live="off"></output>
</div>
{% endfor %}
</div>
<noscript><p>The slice player needs JavaScript, which this browser has switched off.</p></noscript>
{% else %}<p class="quiet">{{ gallery.note }}</p>{% endif %}
{% endmacro %}

{% macro script(gallery, code) %}{% if gallery.cases %}
<script type="application/json" id="case-data">{{ gallery.data }}</script>
<script>{{ code }}</script>
{% endif %}{% endmacro %}
"""

PLAYER_SCRIPT = """
"use strict";
(function () {
  const cases = JSON.parse(document.getElementById("case-data").textContent);
  const toggle = document.getElementById("heat");
  const players = [];

  function load(source) {
    if (!source) { return null; }
    const image = new Image();
    image.src = source;
    return image;
  }

  function start(box) {
    const one = cases[Number(box.dataset.case)];
    const picture = box.querySelector("canvas.picture");
    const strip = box.querySelector("canvas.strip");
    const slider = box.querySelector("input");
    const output = box.querySelector("output");
    const frames = load(one.sprite);
    const heat = load(one.heat);
    const last = one.numbers.length - 1;
    let now = Number(slider.value);

    function cut(image, pen) {
      if (!image || !image.complete || !image.naturalWidth) { return; }
      const w = image.naturalWidth / one.columns;
      const h = image.naturalHeight / one.rows;
      const x = (now % one.columns) * w;
      const y = Math.floor(now / one.columns) * h;
      pen.drawImage(image, x, y, w, h, 0, 0, picture.width, picture.height);
    }

    function draw() {
      const pen = picture.getContext("2d");
      pen.globalAlpha = 1;
      pen.clearRect(0, 0, picture.width, picture.height);
      cut(frames, pen);
      if (heat && toggle && toggle.checked) { cut(heat, pen); }
      if (strip) { drawStrip(strip); }
    }

    function drawStrip(canvas) {
      const pen = canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement);
      const quiet = style.getPropertyValue("--quiet");
      const accent = style.getPropertyValue("--accent");
      const known = one.scores.filter(function (v) { return v !== null; });
      const low = Math.min(0, Math.min.apply(null, known));
      const high = Math.max(0, Math.max.apply(null, known));
      const span = high - low || 1;
      const step = canvas.width / one.scores.length;
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.globalAlpha = 0.5;
      pen.fillStyle = quiet;  // the line of 0, above or below which a slice speaks for the class
      const zero = Math.min(canvas.height * high / span, canvas.height - 1);
      pen.fillRect(0, zero, canvas.width, 1);
      one.scores.forEach(function (value, k) {
        const x = k * step;
        if (k === now) {
          pen.globalAlpha = 0.18;
          pen.fillStyle = accent;
          pen.fillRect(x, 0, Math.max(step, 1), canvas.height);
        }
        pen.globalAlpha = 1;
        if (value === null) { return; }
        const top = canvas.height * (high - Math.max(value, 0)) / span;
        const tall = Math.max(canvas.height * Math.abs(value) / span, 1);
        pen.fillStyle = k === now ? accent : quiet;
        const wide = Math.max(step * 0.8, 1);
        pen.fillRect(x + step * 0.1, Math.min(top, canvas.height - 1), wide, tall);
      });
    }

    function show(k) {
      now = Math.max(0, Math.min(last, k));
      slider.value = String(now);
      let said = "slice " + one.numbers[now] + " (" + (now + 1) + " of " + (last + 1) + ")";
      const value = one.scores ? one.scores[now] : null;
      if (value !== null && value !== undefined) {
        said += ", " + one.score_title + " " + Number(value.toPrecision(3));
      }
      output.textContent = said;
      slider.setAttribute("aria-valuetext", said);
      picture.setAttribute("aria-label", one.title + ", " + said);
      box.dataset.slice = String(now);
      draw();
    }

    box.querySelector(".back").addEventListener("click", function () { show(now - 1); });
    box.querySelector(".on").addEventListener("click", function () { show(now + 1); });
    slider.addEventListener("input", function () { show(Number(slider.value)); });
    picture.addEventListener("click", function () { box.focus(); });
    picture.addEventListener("wheel", function (event) {
      if (document.activeElement !== box) { return; }
      event.preventDefault();
      show(now + (event.deltaY > 0 ? 1 : -1));
    }, { passive: false });
    if (strip) {
      strip.addEventListener("click", function (event) {
        const place = strip.getBoundingClientRect();
        show(Math.floor((event.clientX - place.left) / place.width * one.scores.length));
      });
    }
    box.addEventListener("keydown", function (event) {
      const steps = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1,
                      ArrowUp: now + 1, Home: 0, End: last };
      if (event.key in steps) {
        event.preventDefault();
        show(steps[event.key]);
      }
    });
    if (frames) { frames.addEventListener("load", draw); }
    if (heat) { heat.addEventListener("load", draw); }
    players.push(draw);
    show(now);
  }

  function drawAll() { players.forEach(function (draw) { draw(); }); }
  document.querySelectorAll(".player").forEach(start);
  if (toggle) { toggle.addEventListener("change", drawAll); }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}());
"""
