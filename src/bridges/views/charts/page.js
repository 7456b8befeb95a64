const data = JSON.parse(document.getElementById("data").textContent);
const element = id => document.getElementById(id);
const COLOURS = ["#1f77b4", "#e8590c", "#2b8a3e", "#c92a2a", "#7048e8", "#8d5a44", "#d6336c", "#5f6b76", "#9c8500", "#0b8fa3"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const TIP_ROWS = 12, RAW_LINES = 12;
const LISTED = 200, DRAWN = 500;  // most runs in the tables, and in a chart, at a time
const SECONDS = [1e-3, 1e-2, .1, .2, .5, 1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 7200, 14400, 72000].map(minutes => 60 * minutes)];
const REACH = 20;  // pixels from a line's ends at which its values are still shown
const state = { axis: "step", log: false, smooth: 0, range: null };
const colour = run => COLOURS[run % COLOURS.length];
const dash = run => DASHES[Math.floor(run / COLOURS.length) % DASHES.length];

// ---- data: columns are base64 of little-endian float64, decoded on first use
const columns = new Map();
function column(index) {
  if (!columns.has(index)) {
    const text = atob(data.columns[index]), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer), values = new Float64Array(bytes.length / 8);
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat64(8 * i, true);
    columns.set(index, values);
  }
  return columns.get(index);
}

// the points of a line in the order of the x-axis; rows without an x (such as no epoch) are left out
function points(line) {
  const index = line[state.axis];
  if (index === null) return null;
  const xs = column(index), ys = column(line.value), order = [];
  let rises = true;
  for (let i = 0; i < xs.length; i++) {
    if (Number.isNaN(xs[i])) continue;
    if (order.length && xs[i] < xs[order[order.length - 1]]) rises = false;
    order.push(i);
  }
  if (!rises) order.sort((a, b) => xs[a] - xs[b] || a - b);
  return order.length ? { x: order.map(i => xs[i]), y: order.map(i => ys[i]), at: order } : null;
}

// exponential moving average without the bias of its start, as TensorBoard has it
function smoothed(values) {
  let last = 0, weight = 0;
  return values.map(value => {
    if (!Number.isFinite(value)) return value;
    last = last * state.smooth + (1 - state.smooth) * value;
    weight = weight * state.smooth + (1 - state.smooth);
    return last / weight;
  });
}

const drawable = value => Number.isFinite(value) && !(state.log && value <= 0) ? value : null;

// all lines over one x: an x that a line has twice stays twice; undefined is no gap, null is one
function joined(lines) {
  const counts = new Map();
  for (const line of lines) {
    let times = 0;
    line.x.forEach((x, i) => {
      times = i && line.x[i - 1] === x ? times + 1 : 1;
      if ((counts.get(x) ?? 0) < times) counts.set(x, times);
    });
  }
  const xs = [], place = new Map();
  for (const x of [...counts.keys()].sort((a, b) => a - b)) {
    place.set(x, xs.length);
    for (let n = counts.get(x); n; n--) xs.push(x);
  }
  const rows = lines.map(line => {
    const row = new Array(xs.length);
    let times = 0;
    line.x.forEach((x, i) => {
      times = i && line.x[i - 1] === x ? times + 1 : 0;
      row[place.get(x) + times] = line.y[i];
    });
    return row;
  });
  return [xs, ...rows];
}

// ---- formats
function number(value) {
  if (value === null || value === undefined) return "";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? value.toLocaleString("en") : String(value);
}
function short(value) {
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e6) ? value.toExponential(1).replace("e+", "e") : String(Number(value.toPrecision(6)));
}
function duration(seconds) {
  const sign = seconds < 0 ? "-" : "", s = Math.abs(seconds), pad = n => String(Math.floor(n)).padStart(2, "0");
  if (s < 60) return `${sign}${Number(s.toPrecision(4))} s`;
  return s < 3600 ? `${sign}${Math.floor(s / 60)}:${pad(s % 60)} min` : `${sign}${Math.floor(s / 3600)}:${pad(s / 60 % 60)} h`;
}

// ---- runs: all have a line of each table, and the first that fit the filter a row
class Rows {
  constructor(source, decorate) {
    Object.assign(this, takeRows(source), { decorate, rows: new Map() });
    this.body = this.table.createTBody();
  }

  list(runs) {
    for (const run of runs) if (!this.rows.has(run)) this.rows.set(run, this.row(run));
    this.body.replaceChildren(...runs.map(run => this.rows.get(run)));
  }

  row(run) {
    const holder = document.createElement("template");
    holder.innerHTML = this.lines[run];
    const row = holder.content.firstElementChild;
    this.decorate(row, run);
    return row;
  }
}

const everyRun = data.runs.map((_, run) => run);
const isChecked = everyRun.map(run => run < data.shown);
const isCharted = run => run < data.charted;
let fitting = everyRun, shown = new Set();  // the runs that fit the filter; those that are also checked

function addBox(row, run) {
  const cell = row.cells[0];
  if (!isCharted(run)) return;
  const box = document.createElement("input"), swatch = document.createElement("span"), label = document.createElement("label");
  box.type = "checkbox";
  box.checked = isChecked[run];
  swatch.className = "swatch";
  swatch.style.borderTopColor = colour(run);
  swatch.style.borderTopStyle = dash(run).length ? "dashed" : "solid";
  label.append(box, swatch, ...cell.childNodes);
  cell.append(label);
  box.addEventListener("change", () => { isChecked[run] = box.checked; update(); });
}

const tables = [...document.querySelectorAll("noscript")].map((source, index) => new Rows(source, index ? () => {} : addBox));
const [runRows] = tables;
let words;  // of each run, made by the first search

function filter() {
  const wanted = element("runs").value.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length) words ??= runRows.lines.map(wordsOf);
  fitting = wanted.length ? everyRun.filter(run => wanted.every(word => words[run].includes(word))) : everyRun;
  const listed = fitting.slice(0, LISTED);
  for (const table of tables) table.list(listed);
  element("cut").hidden = listed.length === fitting.length;
  element("cut").textContent = `${number(listed.length)} of ${number(fitting.length)} runs are listed: filter the runs to list others.`;
  update();
}

function check(value) {
  for (const run of fitting) if (isCharted(run)) {
    isChecked[run] = value;
    const box = runRows.rows.get(run)?.querySelector("input");
    if (box) box.checked = value;
  }
  update();
}

// ---- charts
const charts = new Map();  // by metric
class Chart {
  constructor(key, lines) {
    this.key = key;
    this.lines = lines;
    this.plot = null;
    this.isVisible = false;
    this.isStale = true;
    this.card = document.createElement("section");
    this.card.className = "chart";
    const head = document.createElement("header"), title = document.createElement("h2"), button = document.createElement("button");
    title.textContent = key;
    button.type = "button";
    button.textContent = "Enlarge";
    button.setAttribute("aria-label", `Enlarge ${key}`);
    button.addEventListener("click", () => {
      button.textContent = this.card.classList.toggle("large") ? "Reduce" : "Enlarge";
      this.stale();
    });
    head.append(title, button);
    this.box = document.createElement("div");
    this.box.className = "plot";
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label", `Chart of ${key}`);
    this.note = document.createElement("div");
    this.note.className = "note";
    this.card.append(head, this.box, this.note);
    element("charts").append(this.card);
  }

  stale() {
    this.isStale = true;
    if (this.isVisible && !this.card.hidden) this.draw();
  }

  draw() {
    if (!this.isStale) return;
    this.isStale = false;
    const lines = this.lines.filter(line => shown.has(line.run));
    const drawn = lines.slice(0, DRAWN).map(line => ({ line, run: line.run, ...points(line) })).filter(each => each.x);
    this.drawn = drawn;
    this.note.textContent = this.remarks(lines, drawn);
    this.box.setAttribute("aria-label", `Chart of ${this.key} by ${state.axis}, ${drawn.length} runs; the table of runs has its values`);
    if (this.plot) this.plot.destroy();
    this.plot = null;
    if (!drawn.some(each => each.y.some(y => drawable(y) !== null))) return;
    const withRaw = state.smooth > 0 && drawn.length <= RAW_LINES;
    const layers = [];
    for (const each of drawn) {
      if (withRaw) layers.push({ ...each, y: each.y.map(drawable), faint: true });
      each.smooth = state.smooth ? smoothed(each.y) : each.y;
      layers.push({ ...each, y: each.smooth.map(drawable), faint: false });
    }
    this.plot = new uPlot(this.options(layers), joined(layers), this.box);
    if (state.range) this.plot.setScale("x", { min: state.range[0], max: state.range[1] });
  }

  options(layers) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--dim").trim(), grid = style.getPropertyValue("--line").trim();
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui" };
    return {
      width: this.box.clientWidth,
      height: this.box.clientHeight,
      legend: { show: false },
      scales: { x: { time: false }, y: { distr: state.log ? 3 : 1 } },
      axes: [
        { ...axis, ...(state.axis === "time" ? { incrs: SECONDS } : {}), values: (u, splits) => splits.map(x => x === null ? "" : state.axis === "time" ? duration(x) : short(x)), space: state.axis === "time" ? 70 : 50, size: 32 },
        { ...axis, values: (u, splits) => splits.map(y => y === null ? "" : short(y)), size: 58 },
      ],
      series: [{}, ...layers.map(layer => ({
        stroke: colour(layer.run) + (layer.faint ? "40" : ""),
        width: layer.faint ? 1 : 1.6,
        dash: dash(layer.run),
        points: { size: 5, fill: colour(layer.run), stroke: colour(layer.run), ...(layer.faint ? { show: false } : {}) },
      }))],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        points: { show: false },
        sync: { key: "runs", setSeries: false, scales: ["x", null] },
        bind: { dblclick: () => () => zoom(null) },
      },
      hooks: {
        setSelect: [u => {
          if (u.select.width < 4) return;
          const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom(range);
        }],
        ready: [u => {
          u.over.addEventListener("mousemove", event => this.tip(event));
          u.over.addEventListener("mouseleave", () => { element("tip").hidden = true; });
        }],
      },
    };
  }

  // what the chart leaves out, in words
  remarks(all, drawn) {
    const lines = all.slice(0, DRAWN), parts = [], total = lines.reduce((sum, line) => sum + line.points, 0);
    const kept = lines.reduce((sum, line) => sum + column(line.value).length, 0);
    if (!lines.length) return "no run is shown";
    if (lines.length < all.length) parts.push(`the first ${DRAWN} of ${number(all.length)} selected runs drawn`);
    if (kept < total) parts.push(`${number(kept)} of ${number(total)} points drawn, with the extremes of every part` + (state.smooth ? ", and smoothed" : ""));
    if (drawn.length < lines.length) parts.push(`${lines.length - drawn.length} of ${lines.length} runs have no ${state.axis}`);
    let missing = 0, low = 0;
    for (const each of drawn) for (const y of each.y) {
      if (!Number.isFinite(y)) missing++;
      else if (state.log && y <= 0) low++;
    }
    if (missing) parts.push(`${number(missing)} values are NaN or infinite`);
    if (low) parts.push(`${number(low)} values at or below 0 are not on a log scale`);
    if (state.axis === "time" && drawn.some(each => data.runs[each.run].synthetic)) parts.push("some times are synthetic");
    return parts.join("; ");
  }

  // the values of all lines near the mouse, the nearest line first
  tip(event) {
    const u = this.plot, x = u.posToVal(event.offsetX, "x"), found = [];
    for (const each of this.drawn) {
      const i = nearest(each.x, x), isBeside = x < each.x[0] || x > each.x[each.x.length - 1];
      if (isBeside && Math.abs(u.valToPos(each.x[i], "x") - event.offsetX) > REACH) continue;
      const shownAt = drawable(each.smooth[i]);
      const away = shownAt === null ? Infinity : Math.abs(u.valToPos(shownAt, "y") - event.offsetY);
      found.push({ each, i, away });
    }
    found.sort((a, b) => a.away - b.away);
    const table = document.createElement("table");
    found.slice(0, TIP_ROWS).forEach(({ each, i }, rank) => {
      const row = table.insertRow(), line = each.line, at = each.at[i];
      row.className = rank ? "" : "near";
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.borderTopColor = colour(each.run);
      row.insertCell().append(swatch);
      row.insertCell().textContent = data.runs[each.run].name;
      row.insertCell().textContent = number(each.y[i]);
      row.insertCell().textContent = state.smooth ? `smoothed ${short(each.smooth[i])}` : "";
      row.insertCell().textContent = places(line, at);
    });
    const more = found.length - TIP_ROWS, box = element("tip");
    box.replaceChildren(table, ...(more > 0 ? [`and ${more} more`] : []));
    box.hidden = !found.length;
    box.style.left = `${Math.min(event.clientX + 16, innerWidth - box.offsetWidth - 8)}px`;
    box.style.top = `${Math.min(event.clientY + 16, innerHeight - box.offsetHeight - 8)}px`;
  }
}

function places(line, at) {
  const parts = [`step ${number(column(line.step)[at])}`];
  if (line.epoch !== null && !Number.isNaN(column(line.epoch)[at])) parts.push(`epoch ${number(column(line.epoch)[at])}`);
  if (state.axis === "time") parts.push(duration(column(line.time)[at]));
  return parts.join(", ");
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1; else high = middle;
  }
  return low && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
}

function zoom(range) {
  state.range = range;
  element("from").value = range ? Number(range[0].toPrecision(6)) : "";
  element("to").value = range ? Number(range[1].toPrecision(6)) : "";
  for (const chart of charts.values()) {
    if (!chart.plot || chart.isStale) continue;
    if (range) chart.plot.setScale("x", { min: range[0], max: range[1] });
    else chart.plot.setData(chart.plot.data);
  }
}

let isWaiting = false;
function update() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    shown = new Set(fitting.filter(run => isChecked[run]));
    const wanted = element("metrics").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const chart of charts.values()) {
      chart.card.hidden = !wanted.every(word => chart.key.toLowerCase().includes(word));
      chart.stale();
    }
    element("shown").textContent = everyRun.length > 1 ? `${number(shown.size)} of ${number(everyRun.length)} runs shown` : "";
  });
}

// ---- start
const byKey = new Map(data.metrics.map(key => [key, []]));
data.runs.forEach((run, index) => {
  for (const line of run.lines) byKey.get(data.metrics[line.metric]).push({ ...line, run: index });
});
const observer = new IntersectionObserver(entries => {
  for (const entry of entries) {
    const chart = charts.get(entry.target.dataset.key);
    chart.isVisible = entry.isIntersecting;
    if (chart.isVisible && !chart.card.hidden) chart.draw();
  }
}, { rootMargin: "300px" });
for (const [key, lines] of byKey) {
  const chart = new Chart(key, lines);
  chart.card.dataset.key = key;
  charts.set(key, chart);
  observer.observe(chart.card);
}
new ResizeObserver(() => {
  for (const chart of charts.values()) if (chart.plot) chart.plot.setSize({ width: chart.box.clientWidth, height: chart.box.clientHeight });
}).observe(element("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
element("axis").addEventListener("change", event => {
  state.axis = event.target.value;
  for (const id of ["from", "to"]) element(id).placeholder = state.axis === "time" ? "seconds" : "";
  zoom(null);
  update();
});
element("log").addEventListener("change", event => { state.log = event.target.checked; update(); });
element("smooth").addEventListener("input", event => {
  state.smooth = Number(event.target.value);
  element("smoothed").textContent = event.target.value;
  update();
});
for (const id of ["from", "to"]) element(id).addEventListener("change", () => {
  const [low, high] = ["from", "to"].map(each => element(each).valueAsNumber);
  if (low < high) zoom([low, high]);
});
element("reset").addEventListener("click", () => zoom(null));
element("metrics").addEventListener("input", update);
element("runs").addEventListener("input", filter);
for (const [id, value] of [["all", true], ["none", false]]) element(id).addEventListener("click", () => check(value));
element("controls").addEventListener("submit", event => event.preventDefault());
element("controls").hidden = false;
element("scripts").hidden = true;
for (const option of element("axis").options) option.disabled = !data.runs.some(run => run.lines.some(line => line[option.value] !== null));
if (everyRun.length < 2) for (const id of ["runfilter", "buttons"]) element(id).hidden = true;
filter();
