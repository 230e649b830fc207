// Keeps what is marked `data-live` as the server would show it now, while somebody looks.
const PAUSE = 3000;
const known = new Map(); // what the server has shown last, by the names of the parts

function parts(page) {
  return new Map([...page.querySelectorAll("[data-live]")].map((part) => [part.dataset.live, part]));
}

function isTouched(part) {
  const changed = (field) => field.type === "radio" || field.type === "checkbox"
    ? field.checked !== field.defaultChecked
    : field.value !== field.defaultValue;
  return part.contains(document.activeElement)
    || [...part.querySelectorAll("input, textarea")].some(changed);
}

function replace(old, now) {
  for (const open of old.querySelectorAll("details[open][data-key]")) {
    const again = now.querySelector(`details[data-key="${CSS.escape(open.dataset.key)}"]`);
    if (again) again.open = true;
  }
  old.replaceWith(now);
}

async function renew() {
  const marked = parts(document);
  if (!document.querySelector("[data-follow]") || document.hidden) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = parts(new DOMParser().parseFromString(await answer.text(), "text/html"));
  if ([...marked.keys()].join() !== [...page.keys()].join()) {
    if (![...marked.values()].some(isTouched)) location.reload();
    return;
  }
  for (const [name, old] of marked) {
    const now = page.get(name);
    if (known.get(name) !== now.outerHTML && !isTouched(old)) {
      known.set(name, now.outerHTML);
      replace(old, now);
    }
  }
}

async function keep() {
  try { await renew(); } catch { /* the service is away: the next look may find it */ }
  setTimeout(keep, PAUSE);
}

export function live() {
  for (const [name, part] of parts(document)) known.set(name, part.outerHTML);
  setTimeout(keep, PAUSE);
}
