"use strict";
// Shows the OpenAPI document of this server. Its texts go through `textContent`.
(() => {
  const METHODS = ["get", "put", "post", "delete", "patch", "head", "options"];
  const DEEPEST = 4;
  const find = (id) => document.getElementById(id);

  function make(tag, text, properties = {}) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = String(text);
    return Object.assign(made, properties);
  }

  function resolve(api, schema) {
    if (!schema || typeof schema.$ref !== "string") return schema || {};
    let found = api;
    for (const part of schema.$ref.replace(/^#\//, "").split("/")) found = found && found[part];
    return found || {};
  }

  /** A schema in a few words: its name, or its kind and limits. */
  function kind(schema) {
    if (!schema) return "any";
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
    if ("const" in schema) return JSON.stringify(schema.const);
    const choices = schema.anyOf || schema.oneOf;
    if (choices) return choices.map(kind).join(" or ");
    if (schema.type === "array") return `list of ${kind(schema.items)}`;
    const bounds = [["minimum", "from"], ["maximum", "to"], ["minLength", "at least"], ["maxLength", "at most"]]
      .filter(([name]) => name in schema).map(([name, word]) => `${word} ${schema[name]}`);
    const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "any";
    return bounds.length ? `${type} (${bounds.join(", ")})` : type;
  }

  /** An example made of a schema alone: what a body looks like. */
  function example(api, given, depth = 0) {
    const schema = resolve(api, given);
    if ("default" in schema) return schema.default;
    if (schema.examples && schema.examples.length) return schema.examples[0];
    if (schema.enum) return schema.enum[0];
    if ("const" in schema) return schema.const;
    const choices = schema.anyOf || schema.oneOf;
    if (choices) return example(api, choices[0], depth);
    const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
    if (type === "object" || schema.properties) {
      const wanted = schema.required || [];
      const shown = Object.entries(schema.properties || {}).filter(([name]) => wanted.includes(name) || depth === 0);
      return depth >= DEEPEST ? {} : Object.fromEntries(shown.map(([name, one]) => [name, example(api, one, depth + 1)]));
    }
    if (type === "array") return depth >= DEEPEST ? [] : [example(api, schema.items, depth + 1)];
    return { string: "", integer: schema.minimum || 0, number: schema.minimum || 0, boolean: false }[type] ?? null;
  }

  function table(caption, heads, rows) {
    const made = make("table", undefined, { className: "fold" });
    const head = make("tr");
    for (const one of heads) head.append(make("th", one, { scope: "col" }));
    const top = make("thead");
    top.append(head);
    const body = make("tbody");
    for (const row of rows) {
      const line = make("tr");
      row.forEach((text, index) => {
        const cell = index ? make("td", text) : make("th", text, { scope: "row", className: "mono" });
        cell.dataset.label = heads[index];
        line.append(cell);
      });
      body.append(line);
    }
    made.append(top, body);
    return [make("h3", caption), made];
  }

  function fields(api, schema) {
    const { properties = {}, required = [] } = resolve(api, schema);
    return Object.entries(properties).map(([name, one]) =>
      [name, kind(one), required.includes(name) ? "required" : "optional", one.description || ""]);
  }

  function curl(api, path, method, operation) {
    const parts = [`curl -sS '${location.origin}${path}'`];
    if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
    const body = operation.requestBody && (operation.requestBody.content || {})["application/json"];
    if (body) {
      const text = JSON.stringify(example(api, body.schema)).replaceAll("'", "'\\''");
      parts.push("-H 'content-type: application/json'", `-d '${text}'`);
    }
    return parts.join(" \\\n  ");
  }

  function inside(api, path, method, operation) {
    const place = make("div", undefined, { className: "inside" });
    if (operation.description) place.append(make("p", operation.description));
    const permission = operation["x-plumbline-permission"];
    if (permission) {
      const line = make("p", "Permission ", { className: "small soft" });
      line.append(make("code", permission));
      place.append(line);
    }
    const parameters = (operation.parameters || []).map((one) => resolve(api, one));
    if (parameters.length) {
      place.append(...table("Parameters", ["Name", "In", "Kind", ""], parameters.map((one) =>
        [one.name, `${one.in}${one.required ? ", required" : ""}`, kind(one.schema), one.description || ""])));
    }
    for (const [media, content] of Object.entries((operation.requestBody || {}).content || {})) {
      const rows = fields(api, content.schema);
      if (rows.length) place.append(...table(`Body, ${media}: ${kind(content.schema)}`, ["Member", "Kind", "", ""], rows));
      else place.append(make("h3", `Body, ${media}: ${kind(content.schema)}`));
    }
    const answers = Object.entries(operation.responses || {}).map(([status, answer]) => {
      const one = resolve(api, answer);
      const kinds = Object.entries(one.content || {}).map(([media, content]) => `${kind(content.schema)} (${media})`);
      return [status, one.description || "", kinds.join(", ")];
    });
    place.append(...table("Answers", ["Status", "Meaning", "Document"], answers));
    for (const [status, answer] of Object.entries(operation.responses || {})) {
      if (!status.startsWith("2")) continue;
      for (const content of Object.values(resolve(api, answer).content || {})) {
        const rows = fields(api, content.schema);
        if (rows.length) place.append(...table(`${status}: ${kind(content.schema)}`, ["Member", "Kind", "", ""], rows));
      }
    }
    place.append(make("h3", "By hand"), make("pre", curl(api, path, method, operation)));
    return place;
  }

  function entry(api, path, method, operation) {
    const made = make("details");
    made.dataset.words = [path, method, operation.summary, operation.description, operation["x-plumbline-permission"]]
      .join(" ").toLowerCase();
    const head = make("summary");
    head.append(make("span", method.toUpperCase(), { className: `method mono ${METHODS.includes(method) ? method : ""}` }),
      make("span", path, { className: "mono" }), make("span", operation.summary || "", { className: "soft small" }));
    made.append(head);
    made.addEventListener("toggle", () => {
      if (made.open && made.children.length === 1) made.append(inside(api, path, method, operation));
    });
    return made;
  }

  function show(api) {
    document.title = `${api.info.title} API`;
    find("title").textContent = `${api.info.title} API`;
    find("version").textContent = api.info.version;
    const groups = new Map();
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        if (!item[method]) continue;
        const tag = (item[method].tags || ["other"])[0];
        if (!groups.has(tag)) groups.set(tag, []);
        groups.get(tag).push(entry(api, path, method, item[method]));
      }
    }
    for (const [tag, entries] of groups) {
      const section = make("section", undefined, { className: "card" });
      const header = make("header");
      header.append(make("h2", tag));
      section.append(header, ...entries);
      find("operations").append(section);
    }
    sift();
  }

  function sift() {
    const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const one of document.querySelectorAll("details")) {
      one.hidden = !words.every((word) => one.dataset.words.includes(word));
      found += one.hidden ? 0 : 1;
    }
    for (const section of document.querySelectorAll("#operations section")) {
      section.hidden = section.querySelector("details:not([hidden])") === null;
    }
    find("found").textContent = `${found} operations`;
  }

  find("filter").addEventListener("input", sift);
  fetch("/openapi.json", { headers: { accept: "application/json" } })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`the server answered ${answer.status}`))))
    .then(show)
    .catch((error) => { find("found").textContent = error.message; });
})();
