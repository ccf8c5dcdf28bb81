// Shows an OpenAPI document: operations with parameters, bodies, answers, schemas and examples. Everything becomes text, never markup.
"use strict";

const at = (id) => document.getElementById(id);

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

const json = (value) => make("pre", JSON.stringify(value, null, 2));
const lastOf = (reference) => reference.split("/").pop();

function resolved(api, value) {
  if (!value || !value.$ref) return value || {};
  return value.$ref.slice(2).split("/").reduce((inside, part) => inside[part.replace(/~1/g, "/")], api);
}

function rows(cells) {
  const table = make("table");
  for (const row of cells) table.append(make("tr", "", ...row.map((text) => make("td", text))));
  return table;
}

function content(api, holder, place) {
  for (const [kind, { schema, example }] of Object.entries(holder.content || {})) {
    place.append(make("p", "", make("code", kind), make("span", schema && schema.$ref ? " " + lastOf(schema.$ref) : "")));
    if (example !== undefined) place.append(typeof example === "string" ? make("pre", example) : json(example));
    if (schema) {
      const shape = make("details", "", make("summary", "Schema"));
      shape.addEventListener("toggle", () => shape.children.length === 1 && shape.append(json(resolved(api, schema))));
      place.append(shape);
    }
  }
}

function operation(api, method, path, about) {
  const verb = make("span", method.toUpperCase());
  verb.className = "method " + method;
  const whole = make("details", "", make("summary", "", verb, make("code", path), make("span", " " + (about.summary || ""))));
  whole.dataset.words = [method, path, about.summary, about.operationId, ...(about.tags || [])].join(" ").toLowerCase();
  whole.addEventListener("toggle", () => whole.children.length === 1 && fill(api, about, whole), { once: true });
  return whole;
}

function fill(api, about, place) {
  const parameters = (about.parameters || []).map((one) => resolved(api, one));
  if (parameters.length) {
    const name = (one) => one.name + (one.required ? " *" : "");
    place.append(make("h3", "Parameters"), rows(parameters.map((one) => [name(one), one.in, one.description || ""])));
  }
  if (about.requestBody) {
    place.append(make("h3", "Body"));
    content(api, resolved(api, about.requestBody), place);
  }
  place.append(make("h3", "Answers"));
  for (const [status, answer] of Object.entries(about.responses || {})) {
    const found = resolved(api, answer);
    place.append(make("p", "", make("code", status), make("span", " " + (found.description || ""))));
    if (status < "300") content(api, found, place);
  }
}

function show(api) {
  at("title").textContent = `${api.info.title} ${api.info.version}`;
  at("about").textContent = api.info.description || "";
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [method, about] of Object.entries(item)) {
      const tag = (about.tags || ["Other"])[0];
      if (!groups.has(tag)) groups.set(tag, make("section", "", make("h2", tag)));
      groups.get(tag).append(operation(api, method, path, about));
    }
  }
  const schemas = make("section", "", make("h2", "Schemas"));
  for (const [name, schema] of Object.entries((api.components || {}).schemas || {})) {
    const one = make("details", "", make("summary", name));
    one.dataset.words = name.toLowerCase();
    one.addEventListener("toggle", () => one.children.length === 1 && one.append(json(schema)));
    schemas.append(one);
  }
  at("operations").replaceChildren(...[...groups.keys()].sort().map((tag) => groups.get(tag)), schemas);
  at("filter").hidden = false;
}

at("filter").addEventListener("input", (event) => {
  const word = event.target.value.toLowerCase();
  for (const section of at("operations").children) {
    let any = false;
    for (const one of section.querySelectorAll(":scope > details")) {
      one.hidden = !one.dataset.words.includes(word);
      any = any || !one.hidden;
    }
    section.hidden = !any;
  }
});

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("fault").textContent = "";
  try {
    const answer = await fetch("/openapi.json", { headers: { Authorization: "Bearer " + at("token").value } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail || answer.statusText);
    at("ask").hidden = true;
    show(body);
  } catch (error) {
    at("fault").textContent = error.message;
  }
});

const inside = at("openapi");
if (inside) show(JSON.parse(inside.textContent));
else at("ask").hidden = false;
