"use strict";
// Parts of this file are gzip in base64: the browser itself unpacks them, nothing is fetched.
const maple = {
  async unpack(script) {
    const bytes = Uint8Array.from(atob(script.textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  },

  async unpackJson(id) {
    return JSON.parse(await maple.unpack(document.getElementById(id)));
  },

  element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  },

  // Rows of text as a table; every cell is text, never markup.
  table(columns, rows, className) {
    const made = maple.element("table", className);
    const header = made.createTHead().insertRow();
    columns.forEach((name) => {
      const cell = maple.element("th", "", name);
      cell.scope = "col";
      header.append(cell);
    });
    const body = made.createTBody();
    rows.forEach((row) => {
      const line = body.insertRow();
      row.forEach((text, place) => {
        const cell = maple.element(place ? "td" : "th", "", text);
        if (!place) cell.scope = "row";
        line.append(cell);
      });
    });
    return made;
  },

  say(error) {
    const note = "This browser cannot unpack the figures and samples of this page (" + error + "). " +
      "Browsers of 2023 and later can; every number is in tables/ beside this file.";
    const made = maple.element("p", "note", note);
    made.setAttribute("role", "alert");
    document.querySelector("main").prepend(made);
  },
};
