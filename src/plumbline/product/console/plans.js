"use strict";
// Memory plans of versions: read when they come into view, drawn small in the table of models and large below.
const openPlans = ({ find, make, say, ask, renew }) => {
  const SVG = "http://www.w3.org/2000/svg";
  const ELEMENTS = new Set(["svg", "g", "title", "rect", "line", "path", "text"]);
  const ATTRIBUTES = new Set([
    "x", "y", "x1", "x2", "y1", "y2", "width", "height", "rx", "d", "class", "fill", "transform", "text-anchor",
    "stroke-width", "stroke-dasharray",
  ]);
  const WHOLE = "0 40 1180 644"; // without the title, which the page says itself
  const BOXES = "92 92 1060 520";
  const COMPILED = new Set(["model", "text", "pipeline"]);

  const held = new Map(); // key of a version -> { state, name, parts: [{ stage, small, large, words }], without, why }
  let shown = []; // versions with plans, as the server has them now
  let wanted = null; // the choice of a person
  let near = false; // the large picture is in view, or nearly

  const keyOf = (version) => `${version.model}@${version.version} ${version.since}`;
  const nameOf = (version) => `${version.model}@${version.version}`;
  const hasPlan = (version) => version.ready && COMPILED.has(version.kind);
  const idOf = (key, stage) => `${key} ${stage || ""}`;

  // -- reading ---------------------------------------------------------------------------------------

  /** Only drawing, whatever the text holds: no style, no script, no address, no event. */
  function adopt(node) {
    const made = document.createElementNS(SVG, node.localName);
    for (const { name, value } of node.attributes) if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    for (const child of node.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) made.append(child.data);
      else if (ELEMENTS.has(child.localName) && child.namespaceURI === SVG) made.append(adopt(child));
    }
    return made;
  }

  function picture(text, stage, name) {
    const parsed = new DOMParser().parseFromString(text.replace(/<style>[^]*?<\/style>/g, ""), "image/svg+xml");
    const root = parsed.documentElement;
    if (root.localName !== "svg" || root.namespaceURI !== SVG) throw new Error("the picture cannot be read");
    const words = [...root.children].filter((one) => one.localName === "desc").map((one) => one.textContent).join(" ");
    const large = adopt(root);
    const small = large.cloneNode(true);
    for (const one of small.querySelectorAll("title, text, .paper")) one.remove();
    const heading = large.querySelector(":scope > title");
    if (heading !== null) heading.remove(); // it would be the hint of every place without a buffer
    large.setAttribute("viewBox", WHOLE);
    large.setAttribute("role", "img");
    large.setAttribute("aria-label", `Memory plan of ${stage || name}. ${words}`);
    small.setAttribute("viewBox", BOXES);
    small.setAttribute("preserveAspectRatio", "none");
    small.setAttribute("aria-hidden", "true");
    return { stage, large, small, words };
  }

  const addressOf = (version) =>
    `/api/v1/models/${encodeURIComponent(version.model)}/versions/${encodeURIComponent(version.version)}/plan`;
  const drawnAt = (version, stage) =>
    `${addressOf(version)}.svg${stage ? `?stage=${encodeURIComponent(stage)}` : ""}`;

  async function load(version) {
    const key = keyOf(version);
    if (held.has(key)) return;
    const entry = { state: "reading", name: nameOf(version), parts: [], without: [], why: "" };
    held.set(key, entry);
    try {
      let stages = [null];
      if (version.kind === "pipeline") {
        const found = await ask(addressOf(version));
        stages = found.plans.map((plan) => plan.stage);
        entry.without = found.without;
      }
      for (const stage of stages) {
        const text = await ask(drawnAt(version, stage), { text: "image/svg+xml" });
        entry.parts.push(picture(text, stage, nameOf(version)));
      }
      entry.state = "drawn";
    } catch (error) {
      entry.state = "refused";
      entry.why = error.message;
      if (!(error.status >= 400 && error.status < 500) || error.status === 429) held.delete(key); // another time
    }
    for (const place of document.querySelectorAll("[data-version]")) if (place.dataset.version === key) fill(place);
    show();
  }

  // -- small, in the table ---------------------------------------------------------------------------

  /** What stands in the row of a version; the picture comes when the row is seen. */
  function cell(version) {
    if (version.kind === "python") return [make("div", "no plan: a Python class", { className: "numbers" })];
    if (!hasPlan(version)) return [];
    const place = make("div", undefined, { className: "thumbs" });
    place.dataset.version = keyOf(version);
    fill(place);
    return [place];
  }

  function fill(place) {
    const key = place.dataset.version;
    const entry = held.get(key);
    if (entry === undefined || entry.state === "reading") {
      place.replaceChildren(make("div", undefined, { className: "thumb empty" }));
      return;
    }
    const parts = entry.parts.flatMap((part) => {
      const button = make("button", undefined, { type: "button", className: "thumb", title: "Show this plan large" });
      button.dataset.key = `plan ${idOf(key, part.stage)}`;
      button.setAttribute("aria-label", `Memory plan of ${part.stage || entry.name}: show it large`);
      button.append(part.small);
      button.addEventListener("click", () => choose(idOf(key, part.stage), true));
      return part.stage ? [make("div", part.stage, { className: "numbers" }), button] : [button];
    });
    const without = entry.without.map((one) => make("div", `${one.stage}: ${one.reason}`, { className: "numbers" }));
    const why = entry.why ? [make("div", `no picture: ${entry.why}`, { className: "numbers" })] : [];
    place.replaceChildren(...parts, ...without, ...why);
  }

  // -- large, below it -------------------------------------------------------------------------------

  function choices() {
    return shown.flatMap((version) => {
      const key = keyOf(version);
      const parts = (held.get(key) || { parts: [] }).parts;
      const stages = parts.length ? parts.map((part) => part.stage) : [null];
      return stages.map((stage) => ({
        id: idOf(key, stage), version, stage,
        text: stage ? `${nameOf(version)}: ${stage}` : nameOf(version),
      }));
    });
  }

  function show() {
    const all = choices();
    find("plan-card").hidden = all.length === 0;
    if (!all.length) return;
    const usual = all.reduce((best, one) =>
      ((one.version.memory_bytes || 0) > (best.version.memory_bytes || 0) ? one : best));
    const chosen = all.find((one) => one.id === wanted)
      || all.find((one) => idOf(keyOf(one.version), null) === wanted) // a pipeline whose stages were not known yet
      || usual;
    renew(find("plan-choice"), all.map((one) => [one.id, one.text]),
      () => all.map((one) => make("option", one.text, { value: one.id })));
    find("plan-choice").value = chosen.id;
    const entry = held.get(keyOf(chosen.version));
    if (entry === undefined) { if (near) load(chosen.version); return; }
    present(chosen, entry);
  }

  function present(chosen, entry) {
    const part = entry.parts.find((one) => one.stage === chosen.stage);
    const stage = find("plan-stage");
    if (part === undefined) {
      const text = entry.why || (entry.state === "reading" ? "Reading the plan …" : "There is no picture of this plan.");
      if (stage.textContent !== text) stage.replaceChildren(make("p", text, { className: "soft small" }));
    } else if (stage.firstElementChild !== part.large) {
      stage.replaceChildren(part.large);
      say("plan-fact", "");
    }
    say("plan-words", part === undefined ? "" : part.words);
    find("plan-more").hidden = part === undefined;
    const alone = find("plan-alone");
    alone.setAttribute("href", drawnAt(chosen.version, chosen.stage));
    for (const button of document.querySelectorAll("button.thumb")) {
      button.setAttribute("aria-pressed", String(button.dataset.key === `plan ${chosen.id}`));
    }
  }

  function choose(id, look) {
    wanted = id;
    near = true;
    show();
    if (look) find("plan-card").scrollIntoView({ block: "nearest" });
  }

  function fact(event) {
    const group = event.target.closest ? event.target.closest("g") : null;
    const title = group === null ? null : group.querySelector("title");
    say("plan-fact", title === null ? "" : title.textContent);
  }

  // -- following the server --------------------------------------------------------------------------

  const rows = new IntersectionObserver((seen) => {
    for (const one of seen) {
      const version = shown.find((known) => keyOf(known) === one.target.dataset.version);
      if (one.isIntersecting && version !== undefined) load(version);
    }
  }, { rootMargin: "160px" });
  const card = new IntersectionObserver((seen) => {
    near = seen.some((one) => one.isIntersecting);
    if (near) show();
  }, { rootMargin: "160px" });

  /** These are the versions now; called after the table was made. */
  function follow(versions) {
    shown = versions.filter(hasPlan);
    const keys = new Set(shown.map(keyOf));
    for (const key of held.keys()) if (!keys.has(key)) held.delete(key);
    rows.disconnect();
    for (const place of document.querySelectorAll("[data-version]")) {
      if (!held.has(place.dataset.version)) rows.observe(place);
    }
    show();
  }

  card.observe(find("plan-anchor"));
  find("plan-choice").addEventListener("change", () => choose(find("plan-choice").value, false));
  find("plan-stage").addEventListener("pointermove", fact);
  find("plan-stage").addEventListener("pointerleave", () => say("plan-fact", ""));
  return { cell, follow };
};
