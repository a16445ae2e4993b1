"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figure-data");
  const choice = { quantity: "delta", series: null };

  // ---------------------------------------------------------------- figures
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  function resolve(value) {
    if (typeof value === "string") return value.startsWith("var:") ? colour(value.slice(4)) : value;
    if (Array.isArray(value)) return value.map(resolve);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, resolve(entry)]));
    }
    return value;
  }

  function isShown(trace) {
    const inSeries = !trace.series || choice.series === null || trace.series === choice.series;
    return inSeries && (!trace.quantity || trace.quantity === choice.quantity);
  }

  function axis(given) {
    const styled = { gridcolor: colour("line"), zerolinecolor: colour("muted"), linecolor: colour("line"), fixedrange: true };
    return Object.assign(styled, given);
  }

  function layout(figure, narrow) {
    const { ranges, ...given } = figure.layout;
    const made = Object.assign({
      height: figure.height,
      margin: { l: 12, r: 12, t: 8, b: 34 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12 }, align: "left" },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: colour("ink") } },
      hovermode: "closest",
    }, given);
    made.xaxis = axis(made.xaxis);
    made.yaxis = axis(made.yaxis);
    if (ranges && ranges[choice.quantity]) made.yaxis.range = ranges[choice.quantity];
    if (narrow && made.yaxis.ticktext) made.yaxis.ticktext = made.yaxis.ticktext.map((text) => text.split(" · ").join("<br>"));
    return made;
  }

  function draw(holder) {
    const figure = figures[holder.dataset.figure];
    const traces = figure.data.filter(isShown).map(({ series, quantity, ...trace }) => resolve(trace));
    const narrow = holder.clientWidth < 560;
    const config = { displayModeBar: false, displaylogo: false, responsive: true };
    window.Plotly.react(holder, traces, layout(figure, narrow), config);
    holder.dataset.drawn = "yes";
  }

  const holders = [...document.querySelectorAll("[data-figure]")];
  const redraw = () => holders.filter((holder) => holder.dataset.drawn).forEach(draw);

  // One figure at a time, so that a report of a hundred panels can be read while it is drawn.
  function drawNext() {
    const next = holders.find((holder) => !holder.dataset.drawn);
    if (!next) return;
    draw(next);
    setTimeout(drawNext, 0);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    holders.filter((holder) => !holder.dataset.drawn).forEach(draw);
  });

  const curveControls = document.getElementById("curve-controls");
  if (curveControls) {
    const panels = holders.filter((holder) => curveControls.parentElement.contains(holder));
    const traces = panels.flatMap((holder) => figures[holder.dataset.figure].data);
    if (!traces.some((trace) => trace.quantity === "delta")) curveControls.elements.quantity.value = "score";
    const apply = () => {
      choice.quantity = curveControls.elements.quantity.value;
      choice.series = curveControls.elements.series ? curveControls.elements.series.value : null;
      panels.filter((holder) => holder.dataset.drawn).forEach(draw);
    };
    curveControls.addEventListener("change", apply);
    apply();
  }
  drawNext();

  // ---------------------------------------------------------------- samples
  const data = read("sample-data");
  const controls = document.getElementById("sample-controls");
  const list = document.getElementById("sample-list");
  const PAGE = 3;
  let page = 0;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function spoken(tag, className, text, group) {
    const made = element(tag, className, text);
    made.dir = "auto";
    if (group.tag !== "und") made.lang = group.tag;
    return made;
  }

  function row(name, answer, score, group, raw) {
    const made = element("tr");
    const head = element("th", "run-name", name);
    head.scope = "row";
    const cell = element("td");
    cell.append(spoken("div", "text", answer === "" ? "(empty)" : answer, group));
    if (raw !== undefined) cell.append(spoken("span", "raw text", raw, group));
    made.append(head, cell, element("td", "number", score));
    return made;
  }

  function mark(score) {
    if (score === 1) return "✓ 1";
    if (score === 0) return "✗ 0";
    return score === null ? "–" : score.toFixed(2);
  }

  function card(sample, group) {
    const made = element("article", "sample");
    made.append(element("h3", "", "Sample " + sample.id));
    const prompt = spoken("div", "prompt text", sample.prompt, group);
    prompt.tabIndex = 0;
    prompt.setAttribute("role", "region");
    prompt.setAttribute("aria-label", "Prompt");
    const table = element("table");
    const header = table.createTHead().insertRow();
    [["Run", ""], ["Answer", ""], ["Score", "number"]].forEach(([text, kind]) => {
      const cell = element("th", kind, text);
      cell.scope = "col";
      header.append(cell);
    });
    const body = table.createTBody();
    const gold = row("Gold", sample.gold.join(" | "), "", group);
    gold.className = "gold";
    body.append(gold, ...sample.answers.map((a) => row(data.runs[a.run], a.answer, mark(a.score), group, a.text)));
    made.append(prompt, table);
    return made;
  }

  function current() {
    const { task, language } = controls.elements;
    return data.groups.find((group) => group.task === task.value && group.language === language.value);
  }

  function show() {
    const group = current();
    const samples = group ? group.samples : [];
    const pages = Math.max(1, Math.ceil(samples.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...samples.slice(page * PAGE, (page + 1) * PAGE).map((sample) => card(sample, group)));
    document.getElementById("sample-status").textContent = "page " + (page + 1) + " of " + pages;
    controls.elements.previous.disabled = page === 0;
    controls.elements.next.disabled = page === pages - 1;
  }

  function options(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === before)) select.value = before;
  }

  function languages() {
    const groups = data.groups.filter((group) => group.task === controls.elements.task.value);
    options(controls.elements.language, groups.map((group) => [group.language, group.name + " (" + group.language + ")"]));
  }

  if (data.groups.length) {
    options(controls.elements.task, [...new Set(data.groups.map((group) => group.task))].map((task) => [task, task]));
    languages();
    controls.hidden = false;
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.elements.task.addEventListener("change", () => { page = 0; languages(); show(); });
    controls.elements.language.addEventListener("change", () => { page = 0; show(); });
    controls.elements.previous.addEventListener("click", () => { page -= 1; show(); });
    controls.elements.next.addEventListener("click", () => { page += 1; show(); });
    show();
  } else {
    list.append(element("p", "", "No finished evaluation, so no sample to show."));
  }
})();
