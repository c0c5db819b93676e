"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const PAPER_WIDTH = 640;
  const ROOM_FOR_NAMES = 60;
  const probe = document.body.appendChild(document.createElement("i"));
  probe.className = "hidden";
  probe.setAttribute("aria-hidden", "true");

  // Figures name colours as variables of the style sheet; plotly needs their values.
  let known = new Map();
  function color(name) {
    if (!known.has(name)) {
      probe.style.color = name;
      known.set(name, getComputedStyle(probe).color);
    }
    return known.get(name);
  }
  function coloured(value) {
    if (typeof value === "string") return value.startsWith("var(--") ? color(value) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner)]));
    }
    return value;
  }

  // A matrix comes as the cells that are not zero: row, column, count, shade.
  function filled({ cells, ...trace }) {
    if (!cells) return trace;
    const matrix = (zero) => trace.y.map(() => Array(trace.x.length).fill(zero));
    const [z, customdata, text] = [matrix(0), matrix(0), matrix("")];
    for (const [row, column, count, shade] of cells) {
      z[row][column] = shade;
      customdata[row][column] = count;
      text[row][column] = String(count);
    }
    return { ...trace, z, customdata, text };
  }

  function layout(figure, height, width) {
    const own = coloured(figure.layout);
    const axis = {
      gridcolor: color("var(--grid)"), linecolor: color("var(--line)"), zeroline: false, automargin: true, ticks: "",
      tickfont: { color: color("var(--soft)"), size: 12 },
    };
    const titleFont = { color: color("var(--soft)"), size: 12 };
    const axes = {};
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(own).filter((key) => /^[xy]axis\d*$/.test(key))])) {
      const given = own[name] || {};
      axes[name] = { ...axis, ...given };
      if (given.title) axes[name].title = { standoff: 10, ...given.title, font: titleFont };
    }
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height, width, autosize: false,
      margin: { l: 48, r: 12, t: 8, b: 40 }, dragmode: touch ? false : "zoom",
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", traceorder: "normal", font: { size: 12 } },
      ...own, ...axes,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("var(--ink)") },
      hoverlabel: {
        bgcolor: color("var(--surface)"), bordercolor: color("var(--line)"),
        font: { color: color("var(--ink)"), size: 12 }, align: "left", namelength: -1,
      },
    };
  }

  const charts = [...document.querySelectorAll(".chart")].map((element) => ({
    element,
    plot: element.querySelector(".plot"),
    height: parseFloat(element.querySelector(".plot").style.height),
    figures: null,
    view: 0,
    drawn: false,
  }));
  function draw(chart, width) {
    chart.figures ??= JSON.parse(chart.element.querySelector('script[type="application/json"]').textContent);
    const figure = chart.figures[chart.view];
    const wide = width ?? chart.plot.clientWidth;
    const height = figure.layout.meta?.square ? Math.min(chart.height, wide + ROOM_FOR_NAMES) : chart.height;
    chart.plot.style.height = `${height}px`;
    Plotly.react(chart.plot, figure.data.map(filled).map(coloured), layout(figure, height, wide), {
      displayModeBar: false, doubleClick: "reset",
    });
    chart.drawn = true;
    chart.width = wide;
  }
  function redraw() {
    known = new Map();
    charts.filter((chart) => chart.drawn).forEach((chart) => draw(chart));
  }

  let before = null;
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(charts.find((chart) => chart.plot === entry.target));
    }
  }, { rootMargin: "600px" });
  // Only the width matters: each chart has its height from the start.
  const sized = new ResizeObserver((entries) => {
    if (before !== null) return;
    for (const { target, contentRect } of entries) {
      const chart = charts.find((one) => one.plot === target);
      if (chart.drawn && Math.abs(chart.width - contentRect.width) > 1) requestAnimationFrame(() => draw(chart));
    }
  });
  for (const chart of charts) {
    seen.observe(chart.plot);
    sized.observe(chart.plot);
    const select = chart.element.querySelector(".views select");
    const buttons = [...chart.element.querySelectorAll(".views button")];
    const show = (view) => {
      chart.view = Number(view);
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.value === view)));
      draw(chart);
    };
    buttons.forEach((button) => button.addEventListener("click", () => show(button.value)));
    select?.addEventListener("change", () => show(select.value));
  }

  // Once the page is there, the charts further down are drawn one by one, before anybody scrolls to them.
  const drawNext = () => {
    const next = charts.find((chart) => !chart.drawn);
    if (!next) return;
    seen.unobserve(next.plot);
    draw(next);
    setTimeout(drawNext);
  };
  addEventListener("load", () => setTimeout(drawNext, 300));

  // Paper is light, has one width, and shows all charts.
  addEventListener("beforeprint", () => {
    before = root.dataset.theme ?? "";
    root.dataset.theme = "light";
    known = new Map();
    charts.forEach((chart) => draw(chart, PAPER_WIDTH));
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    before = null;
    redraw();
  });

  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const named = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("dogbreeds-theme", root.dataset.theme); } catch { /* Storage is off: this page only. */ }
    named();
    redraw();
  });
  system.addEventListener("change", () => { named(); redraw(); });

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const current = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      const link = links.get(entry.target.id);
      link.setAttribute("aria-current", "true");
      const list = link.closest("ol");
      list.scrollLeft = link.offsetLeft - list.offsetLeft - list.clientWidth / 2 + link.offsetWidth / 2;
    }
  }, { rootMargin: "-15% 0px -80% 0px" });
  links.forEach((_, id) => current.observe(document.getElementById(id)));

  // The page of a run that has not ended reloads itself: the reader stays where they were.
  if (document.querySelector('meta[http-equiv="refresh"]')) {
    try {
      const place = `dogbreeds-place-${location.pathname}`;
      scrollTo({ top: Number(sessionStorage.getItem(place) ?? 0), behavior: "instant" });
      addEventListener("pagehide", () => sessionStorage.setItem(place, String(scrollY)));
    } catch { /* Storage is off: the page starts at its top. */ }
  }
})();
