/**
 * Returns the element with this id; `index.html` must have it.
 *
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`index.html has no element #${id}`);
  return element;
}

/**
 * Creates an element. `text` is never parsed as markup.
 *
 * @param {string} tag
 * @param {{ className?: string, text?: string, title?: string }} [options]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  if (options.className !== undefined) element.className = options.className;
  if (options.title !== undefined) element.title = options.title;
  if (options.text !== undefined) element.textContent = options.text;
  element.append(...children);
  return element;
}
