// Patching: what changed is put into the page that stands, so that nothing flickers and no focus is lost. Words from
// outside go through textContent alone.

const $ = (id) => document.getElementById(id);

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}
function show(node, yes) {
  if (node.hidden === yes) node.hidden = !yes;
}
function mark(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}
function rows(body, template, items, key, fill) {
  const left = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const row = left.get(key(item)) ?? $(template).content.firstElementChild.cloneNode(true);
    left.delete(key(item));
    mark(row, "key", key(item));
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
    fill(row, item);
  });
  left.forEach((row) => row.remove());
}
function tiles(place, pairs) {
  rows(place, "tile", pairs, ([title]) => title, (row, [title, words, look]) => {
    text(row.firstElementChild, title);
    text(row.lastElementChild, words);
    row.className = look ?? "";
  });
}
function say(words) {
  text($("said"), words);
}
