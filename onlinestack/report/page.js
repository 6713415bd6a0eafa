"use strict";
// Draws the charts with plotly.js, switches their views and curves, and follows a run that goes on.
(() => {
  let charts = JSON.parse(document.getElementById("charts").textContent);
  const chosen = {}; // the view of each chart
  const switched = {}; // curves of each chart that were switched on or off by hand
  const narrow = () => window.innerWidth < 640;
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function coloured(value) {
    if (Array.isArray(value)) return value.map(coloured);
    if (value === null || typeof value !== "object") return value === "ink" ? variable("--ink") : value;
    return Object.fromEntries(Object.entries(value).map(([key, own]) => [key, coloured(own)]));
  }

  function axis(own) {
    return {
      gridcolor: variable("--grid"), linecolor: variable("--line"), zerolinecolor: variable("--grid"),
      automargin: true, fixedrange: narrow(), ...own,
      title: { standoff: 8, ...(own && own.title) },
    };
  }

  function layout(own, height) {
    const more = Object.fromEntries(
      Object.entries(own).map(([key, value]) => [key, /^[xy]axis/.test(key) ? axis(value) : value]),
    );
    return {
      height, autosize: true, showlegend: false, hovermode: "x unified", dragmode: narrow() ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", separators: ".,",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: variable("--soft") },
      hoverlabel: { bgcolor: variable("--card"), bordercolor: variable("--line"), font: { color: variable("--ink") } },
      margin: { l: narrow() ? 44 : 58, r: 12, t: 8, b: 42 },
      xaxis: axis({}), yaxis: axis({}), uirevision: "kept", ...more,
    };
  }

  const shows = (id, trace) => switched[id]?.[trace.name] ?? trace.visible !== "legendonly";

  function button(text, pressed, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.append(text);
    made.setAttribute("aria-pressed", String(pressed));
    made.addEventListener("click", act);
    return made;
  }

  // Replaces buttons without taking the keyboard's focus away.
  function fill(box, buttons) {
    const at = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...buttons);
    if (at >= 0 && box.children[at]) box.children[at].focus();
  }

  function draw(id) {
    const section = document.getElementById(id), chart = charts[id];
    const at = Math.min(chosen[id] ?? 0, chart.views.length - 1), view = chart.views[at];
    const again = () => draw(id);
    if (chart.views.length > 1) {
      fill(section.querySelector(".views"), chart.views.map((each, k) => button(each.name, k === at, () => { chosen[id] = k; again(); })));
    }
    const data = view.data.map((trace) => ({ ...coloured(trace), visible: shows(id, trace) }));
    const named = data.filter((trace, k) => trace.showlegend !== false && data.findIndex((other) => other.name === trace.name) === k);
    if (named.length > 1) {
      fill(section.querySelector(".legend"), named.map((trace) => {
        const on = trace.visible;
        const made = button(trace.name, on, () => { (switched[id] ??= {})[trace.name] = !on; again(); });
        const swatch = document.createElement("span");
        const colour = trace.fillcolor ?? trace.line?.color ?? trace.marker?.color;
        swatch.className = "swatch";
        swatch.style.borderTopColor = colour;
        if (trace.line?.dash && trace.line.dash !== "solid") swatch.style.borderTopStyle = "dashed";
        made.prepend(swatch);
        return made;
      }));
    } else {
      section.querySelector(".legend").replaceChildren();
    }
    const plot = section.querySelector(".plot");
    plot.style.height = `${chart.height}px`;
    const revision = { ...coloured(view.layout) };
    const own = layout(revision, chart.height);
    own.uirevision = String(at);
    Plotly.react(plot, data, own, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  const drawAll = () => Object.keys(charts).forEach(draw);

  // Light and dark.
  const root = document.documentElement, dark = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = { get: () => { try { return localStorage.getItem("onlinestack-theme"); } catch { return null; } },
                 set: (value) => { try { localStorage.setItem("onlinestack-theme", value); } catch { /* not kept */ } } };
  if (kept.get()) root.dataset.theme = kept.get();
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    kept.set(root.dataset.theme);
    drawAll();
  });
  dark.addEventListener("change", drawAll);
  let wide = narrow();
  window.addEventListener("resize", () => { if (narrow() !== wide) { wide = narrow(); drawAll(); } });
  drawAll();

  // A run that goes on: new sections are put in, texts and tables renewed, charts redrawn.
  function renew(news) {
    const fresh = new DOMParser().parseFromString(`<main>${news.content}</main>`, "text/html").querySelector("main");
    const content = document.getElementById("content");
    if (!content.children.length) content.replaceChildren(...fresh.cloneNode(true).children);
    let before = null;
    for (const part of fresh.children) {
      if (part.id && !document.getElementById(part.id)) {
        const made = part.cloneNode(true);
        if (before) before.after(made); else content.prepend(made);
      }
      before = part.id ? document.getElementById(part.id) : before;
    }
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const own = document.getElementById(part.id);
      if (own && own.innerHTML !== part.innerHTML) own.innerHTML = part.innerHTML;
    }
    charts = news.charts;
    drawAll();
  }

  let seen = null;
  async function poll() {
    const state = document.getElementById("state");
    try {
      const answer = await fetch("news.json", { headers: seen ? { "If-None-Match": seen } : {} });
      if (answer.status === 200) {
        seen = answer.headers.get("ETag");
        const news = await answer.json();
        if (news.content) {
          renew(news);
          state.textContent = news.finished ? "the run is finished" : "live";
        }
        if (news.finished) return;
      }
    } catch {
      state.textContent = "the run has ended; what is here is what it told last";
      return;
    }
    setTimeout(poll, 2000);
  }
  if (LIVE && !FINISHED) poll();
})();
