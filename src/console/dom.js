// The page as plain descriptions, and the document brought to them with as few changes as possible, so that focus, selection, open
// parts and scroll positions stay. Text becomes text nodes only; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
// What a node was last drawn from.
const drawn = new WeakMap();

const flat = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");

const describe = (space, tag, attributes, children) => ({ space, tag, attributes: attributes ?? {}, children: flat(children) });

/** An element of HTML. `key` in its attributes names it among its siblings; `on...` are handlers. */
export const h = (tag, attributes, ...children) => describe(null, tag, attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) => describe(SVG, tag, attributes, children);

/** Makes the children of `parent` what is described. */
export function draw(parent, ...children) {
  patch(parent, flat(children));
}

function patch(parent, wanted) {
  const named = new Map();
  for (const node of parent.childNodes) {
    const key = drawn.get(node)?.attributes.key;
    if (key !== undefined) named.set(key, node);
  }
  let at = parent.firstChild;
  for (const one of wanted) {
    const node = matching(at, one, named) ?? create(one);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    update(node, one);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// The node that is to become `one`, if there is one already.
function matching(at, one, named) {
  if (typeof one !== "object") return at?.nodeType === Node.TEXT_NODE ? at : null;
  const key = one.attributes.key;
  const node = key === undefined ? at : named.get(key);
  const last = node && drawn.get(node);
  return last && last.tag === one.tag && last.space === one.space && last.attributes.key === key ? node : null;
}

function create(one) {
  if (typeof one !== "object") return document.createTextNode("");
  return one.space ? document.createElementNS(one.space, one.tag) : document.createElement(one.tag);
}

function update(node, one) {
  if (typeof one !== "object") {
    if (node.data !== String(one)) node.data = String(one);
    return;
  }
  const before = drawn.get(node)?.attributes ?? {};
  drawn.set(node, one);
  for (const name of Object.keys(before)) {
    if (!(name in one.attributes)) set(node, name, null);
  }
  for (const [name, value] of Object.entries(one.attributes)) {
    if (before[name] !== value) set(node, name, value);
  }
  patch(node, one.children);
}

// An attribute is written only when its description changed: what a person typed or opened since stays.
function set(node, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) node[name] = value;
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
