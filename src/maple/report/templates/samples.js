(() => {
  const PAGE = 3;
  const ANY = "";
  const { element } = maple;
  const controls = document.getElementById("sample-controls");
  const list = document.getElementById("sample-list");
  let data = { runs: [], groups: [] };
  let page = 0;

  // Columns to samples: group and place say where each stands.
  const every = [];
  function spread() {
    data.groups.forEach((group) => group.ids.forEach((id, place) => {
      const answers = group.by_run.filter((of) => of.answers[place] !== null);
      const texts = answers.flatMap((of) => [of.answers[place], of.texts[place] || ""]);
      const words = [id, group.prompts[place], ...group.gold[place], ...texts];
      const scores = answers.map((of) => of.scores[place]);
      const told = new Set(answers.map((of) => of.answers[place]));
      every.push({ group, place, id, answers, differ: told.size > 1, wrong: scores.some((s) => s !== null && s < 1), words: words.join("\n").toLocaleLowerCase() });
    }));
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
    if (raw) cell.append(spoken("span", "raw text", raw, group));
    made.append(head, cell, element("td", "number", score));
    return made;
  }

  function mark(score) {
    if (score === 1) return "✓ 1";
    if (score === 0) return "✗ 0";
    return score === null ? "–" : score.toFixed(2);
  }

  function card({ group, place, id, answers }) {
    const made = element("article", "sample");
    made.append(element("h3", "", group.task + " · " + group.name + " · " + id));
    const prompt = spoken("div", "prompt text", group.prompts[place], group);
    prompt.tabIndex = 0;
    prompt.setAttribute("role", "region");
    prompt.setAttribute("aria-label", "Prompt of " + id);
    const table = maple.table(["Run", "Answer", "Score"], []);
    table.createCaption().className = "hidden";
    table.caption.textContent = "Answers to " + id;
    const gold = row("Gold", group.gold[place].join(" | "), "", group);
    gold.className = "gold";
    const given = answers.map((of) => row(data.runs[of.run], of.answers[place], mark(of.scores[place]), group, of.texts[place]));
    table.tHead.rows[0].cells[2].className = "number";
    table.tBodies[0].append(gold, ...given);
    made.append(prompt, table);
    return made;
  }

  function matching() {
    const { task, language, kind, text } = controls.elements;
    const searched = text.value.trim().toLocaleLowerCase();
    return every.filter((sample) =>
      (task.value === ANY || sample.group.task === task.value) &&
      (language.value === ANY || sample.group.language === language.value) &&
      (kind.value === "all" || sample[kind.value]) &&
      (!searched || sample.words.includes(searched)));
  }

  function show() {
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    const n = found.length === 1 ? "1 sample" : found.length.toLocaleString("en") + " samples";
    document.getElementById("sample-status").textContent = n + ", page " + (page + 1) + " of " + pages;
    controls.elements.previous.disabled = page === 0;
    controls.elements.next.disabled = page === pages - 1;
  }

  function options(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === before)) select.value = before;
  }

  function languages() {
    const task = controls.elements.task.value;
    const groups = data.groups.filter((group) => task === ANY || group.task === task);
    const names = new Map(groups.map((group) => [group.language, group.name + " (" + group.language + ")"]));
    options(controls.elements.language, [[ANY, "all languages"], ...[...names].sort((a, b) => a[1].localeCompare(b[1], "en"))]);
  }

  function start() {
    if (!data.groups.length) {
      list.append(element("p", "", "No finished evaluation, so no sample to show."));
      return;
    }
    spread();
    const tasks = [...new Set(data.groups.map((group) => group.task))];
    options(controls.elements.task, [[ANY, "all tasks"], ...tasks.map((task) => [task, task])]);
    languages();
    controls.hidden = false;
    const first = () => { page = 0; show(); };
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.elements.task.addEventListener("change", () => { languages(); first(); });
    ["language", "kind"].forEach((name) => controls.elements[name].addEventListener("change", first));
    controls.elements.text.addEventListener("input", first);
    controls.elements.previous.addEventListener("click", () => { page -= 1; show(); });
    controls.elements.next.addEventListener("click", () => { page += 1; show(); });
    show();
  }

  maple.unpackJson("sample-data").then((found) => { data = found; start(); }).catch((error) => list.append(element("p", "", String(error))));
})();
