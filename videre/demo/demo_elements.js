/** The elements of the demo's page: found, made, and relabelled. What others send is shown as text. */

/**
 * @template {Element} T
 * @param {string} id @param {new () => T} type its class @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} [className] @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** @param {string} name of a symbol in the page */
export function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  made.setAttribute("aria-hidden", "true");
  made.append(use);
  return made;
}

/**
 * Change the icon and the label of a tool's button.
 * @param {HTMLElement} button @param {string} name of the icon @param {string} words
 */
export function relabel(button, name, words) {
  button.querySelector("use")?.setAttribute("href", `#${name}`);
  button.querySelector("span")?.replaceChildren(words);
}
