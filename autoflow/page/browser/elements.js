// Small helpers that make elements. Text from outside is only ever added as text, never as HTML.

// Return a new element. Attributes that are null or false are left out; true stands for an empty one.
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
};

// Return text of a user, whose direction marks cannot reach the text around it: those that begin or end an isolate
// could, so they are left out.
const isolated = (text) => make("bdi", {}, text?.replace(/[\u2066-\u2069]/g, ""));

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Return the text as the search compares it: without case and accents.
const folded = (text) =>
  text
    .normalize("NFKD")
    .replace(/\p{Mark}/gu, "")
    .toLowerCase();

const badge = (kind, text, title = null) => make("span", { class: `badge ${kind}`, title }, text);
