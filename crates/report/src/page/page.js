"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const element = (name, text) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // Plots: what a figure asks for, in the colours of the page.

  const themed = (layout) => {
    const axis = (given) => ({
      automargin: true, nticks: 7, gridcolor: colour("grid"), zerolinecolor: colour("edge"), linecolor: colour("edge"),
      ...given, title: { ...given.title, standoff: 8 },
    });
    const ruled = (list) => (list || []).map((rule) => rule.text === undefined
      ? { ...rule, line: { color: colour("faint"), width: 1, dash: "dot" } }
      : { ...rule, font: { color: colour("faint"), size: 10 } });
    return {
      ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
      shapes: ruled(layout.shapes), annotations: ruled(layout.annotations),
      paper_bgcolor: colour("raised"), plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("text"), size: 12, family: "system-ui, sans-serif" },
      margin: { l: 50, r: 12, t: 28, b: 40 }, hovermode: "closest",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("edge"), activecolor: colour("text") },
      legend: { orientation: "h", y: -0.24, yanchor: "top", font: { size: 11 } },
    };
  };
  const config = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const draw = (place, traces, layout, name) => {
    place.style.height = `${layout.height}px`;
    const toImageButtonOptions = { format: "svg", filename: name };
    return Plotly.react(place, traces, themed(layout), { ...config, toImageButtonOptions });
  };
  const panels = [...document.querySelectorAll(".plot")];
  const panelOf = (place) => data.figures[place.dataset.figure].panels[Number(place.dataset.panel)];
  const drawn = new Set();
  const show = (place) => {
    const { traces, layout } = panelOf(place);
    draw(place, traces, layout, place.dataset.figure);
    drawn.add(place);
  };

  // Dark or light, as the system has it until the reader chooses.

  const redraw = [];
  const setTheme = (isDark) => {
    root.dataset.theme = isDark ? "dark" : "light";
    root.style.colorScheme = root.dataset.theme;
    drawn.forEach(show);
    redraw.forEach((again) => again());
  };
  document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
  dark.addEventListener("change", () => setTheme(dark.matches));
  root.dataset.theme = dark.matches ? "dark" : "light";
  root.style.colorScheme = root.dataset.theme;

  // Numbers: made into a table when they are asked for.

  const cell = (value) => (value === null ? "" : String(value));
  const LONGEST = 500;
  document.querySelectorAll("details[data-table]").forEach((details) => {
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".table");
      if (!details.open || place.firstChild) return;
      const { columns } = data.figures[details.dataset.table].table;
      const rows = columns[0].values.length;
      const table = element("table");
      const head = table.createTHead().insertRow();
      columns.forEach((column) => { const th = element("th", column.name); th.scope = "col"; head.append(th); });
      const body = table.createTBody();
      for (let row = 0; row < Math.min(rows, LONGEST); row++) {
        const line = body.insertRow();
        columns.forEach((column) => {
          const value = column.values[row];
          const td = line.insertCell();
          td.textContent = cell(value);
          if (typeof value === "number") td.className = "number";
        });
      }
      place.append(table);
      if (rows > LONGEST) place.append(element("p", `The first ${LONGEST} of ${rows} rows; the download has all.`));
    });
  });
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  document.querySelectorAll("button.csv").forEach((button) => {
    button.addEventListener("click", () => {
      const { columns } = data.figures[button.dataset.figure].table;
      const lines = [columns.map((column) => quoted(column.name)).join(",")];
      for (let row = 0; row < columns[0].values.length; row++) {
        lines.push(columns.map((column) => quoted(cell(column.values[row]))).join(","));
      }
      const link = element("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
      link.download = button.dataset.figure + ".csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  });
  document.querySelectorAll("button.svg").forEach((button) => {
    button.addEventListener("click", () => {
      const of = [...drawn].filter((place) => place.dataset.figure === button.dataset.figure);
      of.forEach((place, index) => {
        const filename = button.dataset.figure + (of.length > 1 ? `-${index + 1}` : "");
        Plotly.downloadImage(place, { format: "svg", filename });
      });
    });
  });

  // Texts: tokens shaded by one of two measures.

  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toPrecision(3);
  };
  const texts = new Map();
  data.texts.forEach((text) => {
    const home = document.getElementById(text.id);
    const bytes = Uint8Array.from(atob(text.received), (character) => character.charCodeAt(0));
    const alpha = (token, layer, head) => (bytes[(token * text.layers + layer) * text.heads + head] / 255) ** 2;
    const place = home.querySelector(".tokens");
    const about = home.querySelector(".about");
    const spans = [];
    let paragraph;
    text.texts.forEach((token, index) => {
      if (index % text.positions === 0) { paragraph = element("p"); place.append(paragraph); }
      const span = element("span", token === "" ? "□" : token.replaceAll("\n", "↵\n"));
      span.dataset.index = index;
      paragraph.append(span);
      spans.push(span);
    });
    const layerOf = home.querySelector("select.layer");
    const headOf = home.querySelector("select.head");
    const by = () => home.querySelector("input:checked").value;
    const top = Math.max(text.typical * 2, ...text.largest.map(Math.abs));
    const strength = (index) => (by() === "largest"
      ? Math.log(Math.abs(text.largest[index]) / text.typical) / Math.log(top / text.typical)
      : Math.sqrt(alpha(index, Number(layerOf.value), Number(headOf.value))));
    const shade = () => {
      const rgb = by() === "largest" ? "213,94,0" : "0,114,178";
      spans.forEach((span, index) => {
        const value = Math.min(1, Math.max(0, strength(index)));
        span.style.background = value > 0.02 ? `rgba(${rgb},${(0.85 * value).toFixed(3)})` : "";
      });
      home.querySelector(".low").textContent = by() === "largest" ? short(text.typical) : "0";
      home.querySelector(".high").textContent = by() === "largest" ? short(top) : "1";
      home.querySelector(".bar").style.background = `linear-gradient(90deg, rgba(${rgb},0), rgba(${rgb},0.85))`;
    };
    let at = -1;
    const tell = (index) => {
      if (at >= 0) spans[at].classList.remove("at");
      at = index;
      spans[at].classList.add("at");
      about.textContent = `${JSON.stringify(text.texts[at])}, sequence ${Math.floor(at / text.positions)}, position `
        + `${at % text.positions}: ${short(text.largest[at])} in channel ${text.channels[at]} after block ${text.blocks[at]}; `
        + `receives ${alpha(at, Number(layerOf.value), Number(headOf.value)).toFixed(2)} of the attention of head `
        + `${headOf.value} in layer ${layerOf.value}.`;
    };
    place.addEventListener("pointerover", (event) => {
      if (event.target.dataset.index !== undefined) tell(Number(event.target.dataset.index));
    });
    place.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: text.positions, ArrowUp: -text.positions, Home: -Infinity, End: Infinity };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      tell(Math.min(spans.length - 1, Math.max(0, at + step)));
      spans[at].scrollIntoView({ block: "nearest" });
    });
    home.addEventListener("change", (event) => {
      // Whoever picks a head wants to see it.
      if (event.target.tagName === "SELECT") home.querySelector("input[value=received]").checked = true;
      shade();
      if (at >= 0) tell(at);
    });
    redraw.push(shade);
    shade();
    texts.set(text.id, {
      pick(layer, head) {
        layerOf.value = layer;
        headOf.value = head;
        shade();
        if (at >= 0) tell(at);
      },
      byPosition(layer, head) {
        const sums = new Array(text.positions).fill(0);
        text.texts.forEach((_, index) => { sums[index % text.positions] += alpha(index, layer, head); });
        return sums.map((sum) => sum / (text.texts.length / text.positions));
      },
    });
  });

  // Heads: a card for the one that is picked, in the heat map or by number.

  data.heads.forEach((heads) => {
    const home = document.getElementById(heads.id);
    const layerOf = home.querySelector("select.layer");
    const headOf = home.querySelector("select.head");
    const facts = home.querySelector("dl");
    const received = home.querySelector(".received");
    const text = texts.get(heads.text);
    const pick = () => {
      const layer = Number(layerOf.value);
      const head = Number(headOf.value);
      const card = heads.cards[layer] && heads.cards[layer][head];
      facts.replaceChildren(...(card || []).map((value, index) => {
        const fact = element("div");
        fact.append(element("dt", heads.names[index]), element("dd", value));
        return fact;
      }));
      if (!text) return;
      text.pick(layer, head);
      if (!window.Plotly) return;
      draw(received, [{ y: text.byPosition(layer, head), type: "bar", marker: { color: "#0072b2" } }], {
        height: 220, xaxis: { title: { text: "position of the key" } }, yaxis: { title: { text: "alpha, in this text" } },
      }, heads.id);
    };
    home.addEventListener("change", pick);
    let strongest = [0, 0, -1];
    const { z } = data.figures[heads.figure].panels[0].traces[0];
    z.forEach((row, layer) => row.forEach((value, head) => {
      if (value > strongest[2]) strongest = [layer, head, value];
    }));
    [layerOf.value, headOf.value] = strongest;
    const map = document.querySelector(`.plot[data-figure="${CSS.escape(heads.figure)}"]`);
    map.addEventListener("drawn", () => map.on("plotly_click", ({ points }) => {
      layerOf.value = points[0].y;
      headOf.value = points[0].x;
      pick();
    }));
    redraw.push(pick);
    pick();
  });

  // Plotly comes packed. Everything above works without it.

  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const program = element("script", await new Response(unpacked).text());
    document.head.append(program);
  };

  // One panel after another, from the top, so that the page answers meanwhile.

  const next = () => {
    const place = panels.find((panel) => !drawn.has(panel));
    if (!place) { root.dataset.ready = "yes"; return; }
    show(place);
    root.dataset.begun = "yes";
    place.dispatchEvent(new Event("drawn"));
    setTimeout(next);
  };
  unpack().then(() => { redraw.forEach((again) => again()); next(); }).catch((error) => {
    const warning = element("p", `The figures cannot be drawn: ${error.message}. Numbers and downloads work.`);
    warning.setAttribute("role", "alert");
    document.querySelector("main").prepend(warning);
  });
})();
