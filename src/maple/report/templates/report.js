(() => {
  let figures = {};
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
    if (narrow && made.yaxis.ticktext) {
      const texts = made.yaxis.ticktext.map((text) => text.split(/ · | (?=against )/).join("<br>"));
      const lines = Math.max(...texts.map((text) => text.split("<br>").length));
      made.yaxis = { ...made.yaxis, ticktext: texts, tickfont: { size: 11 } };
      made.height = Math.max(made.height, 90 + texts.length * (14 * lines + 8));
    }
    return made;
  }

  function draw(holder) {
    const figure = figures[holder.dataset.figure];
    const traces = figure.data.filter(isShown).map(({ series, quantity, ...trace }) => resolve(trace));
    const narrow = holder.clientWidth < 560;
    const config = { displayModeBar: false, displaylogo: false };
    // Both sizes are stated: plotly's own way to follow the window lets a figure lose its height.
    const made = { ...layout(figure, narrow), width: holder.clientWidth };
    holder.style.minHeight = made.height + "px";
    window.Plotly.react(holder, traces, made, config);
    holder.dataset.drawn = "yes";
    holder.dataset.width = made.width;
  }

  const holders = [...document.querySelectorAll("[data-figure]")];
  // What was drawn in a part that is closed now has no width: it is drawn again when it is opened.
  const renew = (of) => of.filter((holder) => holder.dataset.drawn).forEach((holder) => { if (isSeen(holder)) draw(holder); else delete holder.dataset.drawn; });
  const redraw = () => renew(holders);

  // Large tables: unpacked ahead, so that print can put them in at once; put in when looked at.
  const waiting = new Map();
  function insert(part) {
    if (!waiting.has(part)) return;
    part.innerHTML = waiting.get(part); // Markup of the report's own templates, every text escaped.
    waiting.delete(part);
  }
  const parts = [...document.querySelectorAll(".packed")];
  const isSeen = (part) => !part.closest("details:not([open])");
  async function unpackParts() {
    for (const part of parts) {
      waiting.set(part, await maple.unpack(part.querySelector("script")));
      if (isSeen(part)) insert(part);
    }
  }

  // The same figure as a table, made when it is asked for.
  function tell(details) {
    if (details.querySelector("table")) return;
    const figure = figures[details.parentElement.querySelector("[data-figure]").dataset.figure];
    const scroll = maple.element("div", "scroll");
    const table = maple.table(figure.columns, figure.rows);
    table.createCaption().textContent = details.parentElement.querySelector("figcaption").textContent;
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Table of the figure");
    scroll.append(table);
    details.append(scroll);
  }

  // One figure at a time, so that a report of a hundred panels can be read while it is drawn.
  function drawNext() {
    if (!window.Plotly) return;
    const next = holders.find((holder) => !holder.dataset.drawn && isSeen(holder));
    if (!next) return;
    draw(next);
    setTimeout(drawNext, 0);
  }

  const fit = () => renew(holders.filter((holder) => Number(holder.dataset.width) !== holder.clientWidth));
  let pending = 0;
  window.addEventListener("resize", () => { clearTimeout(pending); pending = setTimeout(fit, 100); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", redraw);
  // A script hears of printing while the layout is still the screen's, and paper is narrower.
  window.addEventListener("beforeprint", () => {
    parts.forEach(insert);
    // Hundreds of rows are read on the screen, or from the tables beside the page.
    document.querySelectorAll("details:not(.alternative)").forEach((details) => {
      const isShort = details.querySelectorAll("tr").length <= 80 && details.textContent.length <= 30000;
      if (isShort) details.open = true;
    });
    document.body.classList.add("paper");
    if (window.Plotly) holders.forEach(draw);
  });
  window.addEventListener("afterprint", () => { document.body.classList.remove("paper"); fit(); });

  function startCurves() {
    const controls = document.getElementById("curve-controls");
    if (!controls) return;
    const panels = holders.filter((holder) => controls.parentElement.contains(holder));
    const traces = panels.flatMap((holder) => figures[holder.dataset.figure].data);
    if (!traces.some((trace) => trace.quantity === "delta")) controls.elements.quantity.value = "score";
    const apply = () => {
      choice.quantity = controls.elements.quantity.value;
      choice.series = controls.elements.series ? controls.elements.series.value : null;
      renew(panels);
    };
    controls.addEventListener("change", apply);
    apply();
  }

  // The page's policy holds the hash of the library's text, so that nothing else can run here.
  function run(text) {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }

  document.addEventListener("toggle", (event) => {
    const details = event.target;
    if (!details.open) return;
    if (details.classList.contains("alternative")) tell(details);
    parts.filter((part) => details.contains(part) && isSeen(part)).forEach(insert);
    drawNext();
  }, true);

  async function start() {
    figures = await maple.unpackJson("figure-data");
    if (holders.length) run(await maple.unpack(document.getElementById("library")));
    startCurves();
    drawNext();
    await unpackParts();
    document.body.dataset.ready = "yes";
  }
  start().catch(maple.say);
})();
