"use strict";
(() => {
  const EVERY = 2000;
  const SVG = "http://www.w3.org/2000/svg";
  const STATUS = { done: "done", unfinished: "unfinished", failed: "failed", missing: "not started" };
  const at = (id) => document.getElementById(id);
  const seen = {};

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Drawn again only when it has changed: what a reader has opened or scrolled to stays.
  function put(id, content, make) {
    const text = JSON.stringify(content);
    if (seen[id] === text) return;
    seen[id] = text;
    const holder = at(id);
    const place = [holder.scrollTop, holder.scrollLeft];
    holder.replaceChildren(...make(content));
    [holder.scrollTop, holder.scrollLeft] = place;
  }

  function table(caption, columns, rows) {
    const made = element("table");
    made.createCaption().textContent = caption;
    const header = made.createTHead().insertRow();
    columns.forEach(([name, kind]) => {
      const cell = element("th", kind, name);
      cell.scope = "col";
      header.append(cell);
    });
    const body = made.createTBody();
    rows.forEach((row) => {
      const line = body.insertRow();
      row.forEach((entry, place) => {
        const [text, kind] = Array.isArray(entry) ? entry : [entry, columns[place][1]];
        const cell = element(place ? "td" : "th", kind, String(text));
        if (!place) cell.scope = "row";
        line.append(cell);
      });
    });
    return made;
  }

  const number = (value) => value.toLocaleString("en");
  const points = (value) => (100 * value).toFixed(1);
  const said = (value) => (value === null ? "–" : value.toFixed(3));

  function runs(state) {
    const rows = state.runs.map((run) => [
      run.run, [STATUS[run.status], run.status === "failed" ? "failed" : ""], number(run.steps), said(run.loss),
      run.evaluations_done + " of " + state.planned, number(run.samples),
    ]);
    const columns = [["Run", ""], ["Training", ""], ["Steps", "number"], ["Loss", "number"], ["Task-languages", "number"], ["Samples", "number"]];
    return [table("Every planned run", columns, rows)];
  }

  function scores([all, n]) {
    if (!all.length) return [element("p", "", "Nothing is scored yet.")];
    const rows = all.map((s) => [
      s.run, s.task, s.language + " (" + s.code + ")", s.metric,
      [(s.is_done && !s.is_part ? "" : "≈ ") + (s.score === null ? "–" : points(s.score) + " [" + points(s.low) + ", " + points(s.high) + "]"), "number"],
      number(s.n), s.is_part ? "part: early look" : s.is_done ? "finished" : "so far",
    ]);
    const columns = [["Run", ""], ["Task", ""], ["Language", ""], ["Score", ""], ["Points", "number"], ["Rows", "number"], ["Evaluation", ""]];
    const shown = n > all.length ? number(all.length) + " of " + number(n) + " evaluations: those that changed last" : "Those that changed last come first";
    return [table(shown, columns, rows)];
  }

  function curves(all) {
    const shown = all.filter((curve) => curve.y.some((y) => y !== null));
    if (!shown.length) return [element("p", "", "No curve is stored yet: it is written when a run has been trained.")];
    const values = shown.flatMap((curve) => curve.y.filter((y) => y !== null));
    const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
    const panels = element("div", "panels");
    shown.forEach((curve) => {
      const first = curve.y.find((y) => y !== null);
      const end = Math.max(...curve.x) || 1;
      let pen = "M";
      const path = curve.x.map((x, i) => {
        if (curve.y[i] === null) { pen = "M"; return ""; }
        const point = pen + (300 * x / end).toFixed(1) + " " + (96 - 92 * (curve.y[i] - low) / span).toFixed(1);
        pen = "L";
        return point;
      }).join("");
      const figure = element("figure");
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", "0 0 300 100");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", curve.run + ": loss from " + said(first) + " to " + said(curve.last) + " in " + curve.steps + " steps");
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("d", path);
      svg.append(line);
      figure.append(element("figcaption", "", curve.run + ": " + said(first) + " → " + said(curve.last) + ", " + number(curve.steps) + " steps"), svg);
      panels.append(figure);
    });
    return [panels];
  }

  function failures(all) {
    if (!all.length) return [element("p", "", "No run has failed.")];
    return all.map((f) => {
      const made = element("details");
      made.append(element("summary", "", f.run + " failed in " + (f.stage || "an unnamed stage") + ": " + f.error), element("pre", "", f.traceback));
      return made;
    });
  }

  function show(state) {
    at("problem").hidden = !state.problem;
    at("problem").textContent = state.problem ? "The store cannot be read just now: " + state.problem : "";
    if (state.problem) return;
    const finished = state.finished;
    const planned = state.planned * state.runs.length;
    at("name").textContent = state.name;
    document.title = (planned ? Math.floor(100 * finished / planned) + "% · " : "") + state.name + " · Maple watch";
    at("bar").max = planned || 1;
    at("bar").value = finished;
    at("bar-text").textContent = number(finished) + " of " + number(planned) + " evaluations finished; runs: " +
      Object.entries(STATUS).filter(([key]) => state.counts[key]).map(([key, name]) => state.counts[key] + " " + name).join(", ");
    put("runs", { runs: state.runs, planned: state.planned }, runs);
    put("scores", [state.scores, state.evaluations], scores);
    put("curves", state.curves, curves);
    put("failures", state.failures, failures);
  }

  let changed = "";
  async function ask() {
    if (!at("pause").checked) {
      try {
        const answer = await fetch("state", { cache: "no-store" });
        if (!answer.ok) throw new Error("the server answered " + answer.status);
        const state = await answer.json();
        const { time, ...rest } = state;
        const text = JSON.stringify(rest);
        if (text !== changed) {
          changed = text;
          show(state);
          // Spoken only when something is new, not every two seconds.
          at("status").textContent = "Last change seen at " + new Date(time).toLocaleTimeString("en-GB") + ".";
        }
        document.body.dataset.ready = "yes";
      } catch (error) {
        at("status").textContent = "No answer from maple watch (" + error.message + "). Is it still running?";
      }
    }
    setTimeout(ask, EVERY);
  }
  ask();
})();
