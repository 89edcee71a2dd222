"use strict";
// Reads this server and shows it. Every text of the server goes through `textContent`: names are data.
(() => {
  const find = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = ["#4f86cf", "#2f9e83", "#d9822b", "#9b6bd3", "#c2477f", "#7b9b30", "#3b9fb8", "#b58a1b"];
  const GOOD = new Set(["ready"]);
  const BAD = new Set(["dead", "failed", "stalled"]);
  const SHOWN_LAUNCHES = 300;
  const SHOWN_EVENTS = 60;
  const PARTS = ["weights", "state", "arenas"];

  let key = null; // of this page, in memory alone
  let paused = false;
  let timeline = [];
  let clock = null; // {server_ns, page_ms}
  let chosen = null;
  const colours = new Map();

  // -- making things ---------------------------------------------------------------------------------

  function make(tag, text, properties = {}) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = String(text);
    return Object.assign(made, properties);
  }

  function draw(tag, attributes = {}, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    if (text !== undefined) made.textContent = String(text);
    return made;
  }

  function say(id, text) {
    const place = typeof id === "string" ? find(id) : id;
    if (place.textContent !== String(text)) place.textContent = String(text);
  }

  function cell(label, text, properties = {}) {
    const made = make("td", text, properties);
    made.dataset.label = label;
    return made;
  }

  function pill(state) {
    const kind = GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : "wait";
    return make("span", state, { className: `pill ${kind}` });
  }

  function dress(place, text, kind) {
    say(place, text);
    place.className = `${place.className.replace(/ ?\b(good|wait|bad)\b/g, "")} ${kind}`;
  }

  /** Rebuild `place` only where `facts` are not those it shows: focus and reading position stay. */
  function renew(place, facts, build) {
    const shown = JSON.stringify(facts);
    if (place.shown === shown) return;
    place.shown = shown;
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    place.replaceChildren(...build());
    if (focused !== undefined) {
      for (const one of place.querySelectorAll("[data-key]")) if (one.dataset.key === focused) one.focus();
    }
  }

  function bytes(count) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
    return `${count.toFixed(unit && count < 100 ? 1 : 0)} ${units[unit]}`;
  }

  function duration(ns) {
    if (ns < 1e3) return `${Math.round(ns)} ns`;
    if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e5 ? 1 : 0)} µs`;
    if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e8 ? 2 : 0)} ms`;
    return `${(ns / 1e9).toFixed(2)} s`;
  }

  const count = (number) => Number(number).toLocaleString("en");

  // -- asking the server -----------------------------------------------------------------------------

  class Refused extends Error {
    constructor(status, document) {
      super(document.detail || `the server answered ${status}`);
      this.status = status;
    }
  }

  /** `text`: the media type of an answer that is not JSON. */
  async function ask(path, { text = "", refusals = [] } = {}) {
    const headers = { accept: text || "application/json" };
    if (key !== null) headers.authorization = `Bearer ${key}`;
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.ok || refusals.includes(answer.status)) return text ? answer.text() : answer.json();
    const document = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, document);
  }

  const plans = openPlans({ find, make, say, ask, renew });

  // -- health ----------------------------------------------------------------------------------------

  function showHealth(health) {
    const reasons = (health.checks && health.checks.reasons) || [];
    dress(find("health"), health.ready ? "ready" : "not ready", health.ready ? "good" : "bad");
    renew(find("reason-list"), reasons, () => reasons.map((reason) => make("li", reason)));
    find("reasons").hidden = Boolean(health.ready);
  }

  // -- models ----------------------------------------------------------------------------------------

  function showModels(models, stats) {
    const versions = models.flatMap((model) => model.versions);
    const largest = Math.max(1, ...versions.map((version) => version.memory_bytes || 0));
    const counted = new Map(stats.map((one) => [`${one.name}@${one.version}`, one.inference_stats]));
    find("no-models").hidden = versions.length > 0;
    renew(find("models"), [versions, stats], () =>
      versions.map((version) => modelRow(version, counted.get(`${version.model}@${version.version}`), largest)));
    plans.follow(versions);
    const planned = versions.reduce((sum, version) => sum + (version.memory_bytes || 0), 0);
    const unstated = versions.filter((version) => (version.memory_unstated || []).length).length;
    say("memory", unstated ? `${bytes(planned)}, ${count(unstated)} not stated` : bytes(planned));
  }

  function modelRow(version, counts, largest) {
    const row = make("tr");
    const name = make("th", `${version.model}@${version.version}`, { scope: "row" });
    const state = cell("State");
    const box = make("div");
    box.append(pill(version.state));
    if (version.reason) box.append(make("div", version.reason, { className: "small soft" }));
    state.append(box);
    const kind = cell("Kind", version.kind || "–");
    const share = version.ready ? `${Math.round(version.share * 100)} %` : "–";
    const done = counts ? counts.success.count : 0;
    const failed = counts ? counts.fail.count : 0;
    const requests = cell("Requests", count(done), { className: "n" });
    if (failed) requests.append(make("div", `${count(failed)} failed`, { className: "numbers" }));
    const mean = done ? duration(counts.success.ns / done) : "–";
    row.append(name, state, kind, cell("Share", share, { className: "n" }), planCell(version, largest), requests,
      cell("Mean", mean, { className: "n" }), faceCell(version));
    return row;
  }

  function planCell(version, largest) {
    const place = cell("Memory plan", undefined, { className: "memory" });
    place.append(...plans.cell(version));
    const memory = {}; // a pipeline has `stage0.weights`: parts of one kind are one piece
    for (const [part, size] of Object.entries(version.memory || {})) {
      const kind = part.split(".").pop();
      memory[kind] = (memory[kind] || 0) + size;
    }
    if (!Object.keys(memory).length) {
      const unstated = (version.memory_unstated || []).length ? "memory not stated" : "–";
      place.append(make("span", version.memory_bytes ? bytes(version.memory_bytes) : unstated, { className: "numbers" }));
      return place;
    }
    const box = make("div");
    const bar = make("div", undefined, { className: "plan" });
    bar.setAttribute("aria-hidden", "true");
    const parts = [...PARTS.filter((part) => part in memory), ...Object.keys(memory).filter((p) => !PARTS.includes(p))];
    for (const part of parts) {
      if (!memory[part]) continue;
      const piece = make("span", undefined, { className: PARTS.includes(part) ? part : "other" });
      piece.style.width = `max(2px, ${(100 * memory[part]) / largest}%)`;
      bar.append(piece);
    }
    const words = parts.filter((part) => memory[part]).map((part) => `${part} ${bytes(memory[part])}`);
    const total = bytes(version.memory_bytes || 0);
    box.append(bar, make("span", words.length > 1 ? `${total}: ${words.join(", ")}` : words[0] || total,
      { className: "numbers" }));
    const unstated = version.memory_unstated || [];
    if (unstated.length) box.append(make("div", `not stated: ${unstated.join(", ")}`, { className: "numbers" }));
    place.append(box);
    return place;
  }

  function faceCell(version) {
    const place = cell("Takes and gives");
    if (!version.inputs) { say(place, "–"); return place; }
    const box = make("div", undefined, { className: "mono small" });
    const tensor = (one) => `${one.name} ${one.datatype}[${one.shape.map((n) => (n < 0 ? "n" : n)).join("×")}]`;
    box.append(make("div", version.inputs.map(tensor).join(", ")));
    box.append(make("div", `→ ${version.outputs.map(tensor).join(", ")}`, { className: "soft" }));
    const rows = version.max_rows ? `batched, at most ${count(version.max_rows)} rows` : version.unbatched_because;
    if (rows) box.append(make("div", rows, { className: "soft" }));
    place.append(box);
    return place;
  }

  // -- workers ---------------------------------------------------------------------------------------

  function showWorkers(workers) {
    say("queued", count(workers.reduce((sum, worker) => sum + worker.queued, 0)));
    say("running", count(workers.reduce((sum, worker) => sum + worker.running, 0)));
    const ready = workers.filter((worker) => worker.state === "ready").length;
    say("worker-count", ready === workers.length ? count(ready) : `${count(ready)} of ${count(workers.length)}`);
    renew(find("workers"), workers, () => workers.map((worker) => {
      const row = make("tr");
      const state = cell("State");
      state.append(pill(worker.state));
      const budget = worker.budget_bytes ? ` of ${bytes(worker.budget_bytes)}` : "";
      const number = { className: "n" };
      row.append(make("th", worker.name, { scope: "row" }), state, cell("Queued", count(worker.queued), number),
        cell("Running", count(worker.running), number), cell("Steps", count(worker.steps), number),
        cell("Process", worker.pid || "–", number), cell("Life", worker.generation, number),
        cell("Memory", bytes(worker.memory_bytes) + budget, number));
      return row;
    }));
  }

  // -- launches --------------------------------------------------------------------------------------

  function colourOf(model) {
    const name = model.split("@")[0];
    if (!colours.has(name)) colours.set(name, COLOURS[colours.size % COLOURS.length]);
    return colours.get(name);
  }

  const isWarmUp = (launch) => launch.requests.every((request) => request.startsWith("warm-up-"));

  function range() {
    const span_ms = Number(find("span").value);
    const last = timeline.length ? Math.max(...timeline.map((launch) => launch.ended_ns)) : 0;
    const now = clock === null ? last : clock.server_ns + (performance.now() - clock.page_ms) * 1e6;
    const end = span_ms < 0 ? last : now;
    return { begin: end - Math.abs(span_ms) * 1e6, end, live: span_ms > 0 };
  }

  function drawTimeline() {
    const stage = find("timeline");
    const { begin, end, live } = range();
    const shown = timeline.filter((launch) => launch.ended_ns >= begin && launch.began_ns <= end);
    const lanes = [...new Set(timeline.map((launch) => `${launch.worker} ${launch.stream}`))].sort();
    const width = Math.max(280, stage.clientWidth);
    const longest = Math.max(0, ...lanes.map((lane) => lane.length));
    const left = Math.min(Math.max(62, 12 + longest * 6), width / 3);
    const height = Math.max(1, lanes.length) * 30 + 26;
    const x = (ns) => left + ((ns - begin) / (end - begin)) * (width - left - 6);
    const parts = [];
    lanes.forEach((lane, index) => {
      const [worker, stream] = [lane.slice(0, lane.lastIndexOf(" ")), lane.slice(lane.lastIndexOf(" ") + 1)];
      parts.push(draw("rect", { class: "lane", x: left, y: index * 30 + 2, width: width - left - 6, height: 24, rx: 5 }));
      parts.push(draw("text", { x: 0, y: index * 30 + 18 }, `${worker} · ${stream}`));
    });
    const ticks = width < 500 ? 3 : 6;
    for (let tick = 0; tick <= ticks; tick += 1) {
      const at = begin + ((end - begin) * tick) / ticks;
      const behind = end - at;
      const text = behind === 0 ? (live ? "now" : "last") : `−${duration(behind).replace(/\.?0+ /, " ")}`;
      const anchor = tick === ticks ? "end" : tick === 0 ? "start" : "middle";
      parts.push(draw("line", { class: "axis", x1: x(at), x2: x(at), y1: 0, y2: height - 20 }));
      parts.push(draw("text", { x: x(at), y: height - 4, "text-anchor": anchor }, text));
    }
    for (const launch of shown) {
      const from = Math.max(left, x(launch.began_ns));
      const to = Math.max(from + 3, x(launch.ended_ns));
      const lane = lanes.indexOf(`${launch.worker} ${launch.stream}`);
      parts.push(draw("rect", {
        class: "launch", x: from, y: lane * 30 + 4, width: to - from, height: 20, rx: 2,
        fill: colourOf(launch.model), "fill-opacity": isWarmUp(launch) ? 0.45 : 0.95,
        "data-launch": timeline.indexOf(launch),
      }));
    }
    stage.setAttribute("viewBox", `0 0 ${width} ${height}`);
    stage.setAttribute("height", height);
    stage.replaceChildren(...parts);
    const where = live ? "in this span" : "before and with the last launch";
    say("timeline-summary", `${count(shown.length)} ${where}${paused ? ", paused" : ""}`);
    renew(find("legend"), [...colours], () => [...colours].map(([name, colour]) => {
      const one = make("span", undefined, { className: "soft" });
      const sign = draw("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
      sign.append(draw("rect", { width: 10, height: 10, rx: 3, fill: colour }));
      one.append(sign, make("span", name));
      return one;
    }));
  }

  function launchUnder(event) {
    const target = document.elementFromPoint(event.clientX, event.clientY);
    const index = target && target.getAttribute ? target.getAttribute("data-launch") : null;
    return index === null ? undefined : timeline[Number(index)];
  }

  function hint(event) {
    const launch = launchUnder(event);
    const place = find("hint");
    place.hidden = launch === undefined;
    if (launch === undefined) return;
    const others = launch.requests.length > 1 ? ` and ${launch.requests.length - 1} more in this batch` : "";
    place.textContent = `${launch.model}\n${launch.requests[0]}${others}\nran ${duration(launch.ended_ns - launch.began_ns)}`
      + `, chosen ${duration(launch.began_ns - launch.selected_ns)} before\nclick for why`;
    const stage = find("timeline").getBoundingClientRect();
    const left = Math.min(event.clientX - stage.left + 12, stage.width - place.offsetWidth);
    place.style.left = `${Math.max(0, left)}px`;
    place.style.top = `${event.clientY - stage.top + 16}px`;
  }

  function listLaunches() {
    const last = timeline.slice(-40).reverse();
    renew(find("launches"), last, () => last.map((launch) => {
      const row = make("tr");
      const head = make("th", undefined, { scope: "row" });
      for (const request of launch.requests.slice(0, 3)) {
        const button = make("button", request, { type: "button", className: "link mono" });
        button.dataset.key = `${launch.worker} ${launch.launch} ${request}`;
        button.addEventListener("click", () => explain(request));
        head.append(button, " ");
      }
      if (launch.requests.length > 3) head.append(make("span", `and ${launch.requests.length - 3} more`, { className: "soft" }));
      const number = { className: "n" };
      row.append(head, cell("Model", launch.model), cell("Dispatch", duration(launch.began_ns - launch.selected_ns), number),
        cell("Ran", duration(launch.ended_ns - launch.began_ns), number));
      return row;
    }));
  }

  async function explain(request) {
    const place = find("explanation");
    place.hidden = false;
    chosen = request;
    find("request").value = request;
    place.replaceChildren(make("p", "Reading the decision logs …", { className: "soft small" }));
    let parts;
    try {
      const found = await ask(`/api/v1/requests/${encodeURIComponent(request)}/explain`);
      parts = [make("pre", found.lines.join("\n"))];
    } catch (error) {
      parts = [make("p", error.message)];
    }
    if (chosen !== request) return;
    place.replaceChildren(make("h3", `Request ${request}`), ...parts);
  }

  // -- rate and latency ------------------------------------------------------------------------------

  const samples = []; // {at_ms, count, ns}, of the last ten seconds

  function showRate(stats) {
    const now = { at_ms: performance.now(), count: 0, ns: 0 };
    for (const { inference_stats: one } of stats) {
      now.count += one.success.count + one.fail.count;
      now.ns += one.success.ns + one.fail.ns;
    }
    if (samples.length && now.count < samples[samples.length - 1].count) samples.length = 0; // a new server
    samples.push(now);
    while (samples.length > 2 && samples[0].at_ms < now.at_ms - 10500) samples.shift();
    const first = samples[0];
    const requests = now.count - first.count;
    const seconds = (now.at_ms - first.at_ms) / 1e3;
    say("rate", seconds > 0 ? (requests / seconds).toFixed(requests / seconds < 10 ? 1 : 0) : "–");
    if (find("latency-label").dataset.from !== "metrics") {
      say("latency", requests ? duration((now.ns - first.ns) / requests) : "–");
    }
    return now.count;
  }

  /** Upper bounds of median and p99 of what was served since the last reading, from the exposition. */
  function percentiles(text, before) {
    const buckets = new Map();
    const line = /^plumbline_request_duration_seconds_bucket\{(.*)\} (\S+)/gm;
    for (const [, labels, value] of text.matchAll(line)) {
      const limit = /(?:^|,)le="([^"]+)"/.exec(labels);
      if (limit === null) continue;
      const bound = limit[1] === "+Inf" ? Infinity : Number(limit[1]);
      buckets.set(bound, (buckets.get(bound) || 0) + Number(value));
    }
    const bounds = [...buckets.keys()].sort((a, b) => a - b);
    const gained = bounds.map((bound) => buckets.get(bound) - (before ? before.get(bound) || 0 : 0));
    const total = gained[gained.length - 1] || 0;
    const at = (share) => bounds[gained.findIndex((sum) => sum >= share * total)];
    return { buckets, total, median: at(0.5), high: at(0.99) };
  }

  let lastBuckets = null;
  let metricsOff = false;

  async function showMetrics() {
    if (metricsOff) return;
    let text;
    try {
      text = await ask("/metrics", { text: "text/plain" });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      metricsOff = true;
      say("degraded", error.status === 403
        ? "Percentiles need a key that may read metrics; the mean is of this server's statistics."
        : "This server has no metrics; latency is the mean of its statistics.");
      return;
    }
    find("metrics-link").hidden = false;
    const found = percentiles(text, lastBuckets);
    lastBuckets = found.buckets;
    if (!found.total) return;
    const bound = (seconds) => (seconds === Infinity ? "> all" : `≤ ${duration(seconds * 1e9).replace(/\.0+ /, " ")}`);
    const place = find("latency-label");
    place.dataset.from = "metrics";
    say(place, "Latency p50, p99");
    renew(find("latency"), [found.median, found.high], () =>
      [document.createTextNode(bound(found.median)), " ", make("small", bound(found.high))]);
  }

  // -- events ----------------------------------------------------------------------------------------

  let socket = null;
  let cursor = 0;
  let retry_ms = 500;

  function connect() {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    const mine = socket;
    mine.addEventListener("open", () => {
      if (key !== null) mine.send(JSON.stringify({ type: "authenticate", key }));
    });
    mine.addEventListener("message", (message) => hear(mine, JSON.parse(message.data)));
    mine.addEventListener("close", (closing) => {
      if (socket !== mine) return;
      dress(find("socket"), closing.code === 4401 ? "needs a key" : "reconnecting", "wait");
      if (closing.code === 4401 && key === null) return;
      setTimeout(connect, retry_ms);
      retry_ms = Math.min(retry_ms * 2, 8000);
    });
  }

  function hear(from, message) {
    if (message.type === "welcome") {
      from.send(JSON.stringify(cursor === null ? { type: "subscribe" } : { type: "subscribe", after: cursor }));
    } else if (message.type === "subscribed") {
      retry_ms = 500;
      dress(find("socket"), "live", "good");
    } else if (message.type === "event") {
      cursor = message.event.sequence;
      showEvent(message.event);
    } else if (message.type === "ping") {
      from.send(JSON.stringify({ type: "pong" }));
    } else if (message.type === "refused") {
      cursor = null; // the history begins later, or belongs to another run of the gateway
      from.send(JSON.stringify({ type: "subscribe" }));
    }
  }

  function showEvent(event) {
    const list = find("events");
    find("no-events").hidden = true;
    const one = make("li");
    const words = Object.entries(event.fields).filter(([, value]) => value !== "" && value !== null)
      .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`);
    const time = make("time", new Date(event.at).toLocaleTimeString([], { hour12: false }),
      { className: "soft number", dateTime: event.at });
    const what = make("span");
    what.append(make("strong", event.kind), " ", make("span", event.subject, { className: "mono" }));
    one.append(time, what);
    if (words.length) one.append(make("span", words.join(", "), { className: "fields" }));
    list.prepend(one);
    while (list.children.length > SHOWN_EVENTS) list.lastChild.remove();
    read.soon = true;
    if (event.kind.startsWith("worker.")) look();
  }

  /** What a worker did is over within a beat: health is read at once. */
  function look() {
    ask("/health", { refusals: [503] }).then(showHealth).catch(() => undefined); // the beat says what is wrong
  }

  // -- the beat --------------------------------------------------------------------------------------

  let turn = 0;
  let seen = -1;

  async function read() {
    showHealth(await ask("/health", { refusals: [503] }));
    const { workers } = await ask("/api/v1/workers");
    showWorkers(workers);
    if (turn % 2 === 0 || read.soon) {
      read.soon = false;
      const [{ models }, { model_stats: stats }] = await Promise.all([ask("/api/v1/models"), ask("/v2/models/stats")]);
      showModels(models, stats);
      const served = showRate(stats);
      if (served !== seen) read.launches = 3;
      seen = served;
    }
    if (workers.some((worker) => worker.running || worker.queued)) read.launches = 3;
    if (!paused && (read.launches > 0 || turn % 5 === 0)) {
      read.launches -= 1;
      const found = await ask(`/api/v1/timeline?last=${SHOWN_LAUNCHES}`);
      timeline = found.launches;
      if (found.now_ns) clock = { server_ns: found.now_ns, page_ms: performance.now() };
      listLaunches();
    }
    if (turn % 5 === 0) await showMetrics();
    if (!paused) drawTimeline();
  }
  read.soon = false;
  read.launches = 1;

  async function introduce() {
    const info = await ask("/api/v1/info");
    say("name", info.name === "plumbline" ? "Plumbline" : info.name);
    say("version", `${info.version} · ${info.principal.id} of ${info.principal.tenant}`);
    document.title = info.name === "plumbline" ? "Plumbline" : info.name;
    find("key-form").hidden = true;
    if (socket === null || socket.readyState === WebSocket.CLOSED) connect();
  }

  let introduced = false;

  async function beat() {
    if (!document.hidden) {
      try {
        if (!introduced) { await introduce(); introduced = true; }
        await read();
        turn += 1;
      } catch (error) {
        if (error instanceof Refused && error.status === 401) { askForKey(error.message); return; }
        if (error instanceof Refused) {
          dress(find("health"), "cannot be read", "bad");
          renew(find("reason-list"), error.message, () => [make("li", error.message)]);
        } else {
          dress(find("health"), "unreachable", "bad");
          renew(find("reason-list"), "gone", () => [make("li", "this server does not answer; trying again")]);
          introduced = false;
          cursor = 0;
          find("events").replaceChildren();
        }
        find("reasons").hidden = false;
      }
    }
    setTimeout(beat, 1000);
  }

  function askForKey(reason) {
    dress(find("health"), "needs a key", "wait");
    find("key-form").hidden = false;
    say("key-answer", key === null ? "" : reason);
    introduced = false;
    find("key").focus();
  }

  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = find("key").value.trim();
    find("plan-alone").hidden = true; // a link carries no key
    find("key").value = "";
    if (socket !== null) { const old = socket; socket = null; old.close(); }
    beat();
  });
  find("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const request = find("request").value.trim();
    if (request) explain(request);
  });
  find("pause").addEventListener("click", () => {
    paused = !paused;
    find("pause").setAttribute("aria-pressed", String(paused));
    say("pause", paused ? "Go on" : "Pause");
    drawTimeline();
  });
  find("span").addEventListener("change", drawTimeline);
  find("timeline").addEventListener("click", (event) => {
    const launch = launchUnder(event);
    if (launch) explain(launch.requests[0]);
  });
  find("timeline").addEventListener("pointermove", hint);
  find("timeline").addEventListener("pointerleave", () => { find("hint").hidden = true; });
  addEventListener("resize", drawTimeline);
  beat();
})();
