// Keeps what is marked `data-live` as the server would show it now, while somebody looks.
const PAUSE = 3000;

async function renew() {
  const marked = document.querySelectorAll("[data-live]");
  if (!marked.length || document.hidden) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of marked) {
    const name = old.dataset.live;
    const now = page.querySelector(`[data-live="${name}"]`);
    if (!now) return location.reload();
    if (old.innerHTML !== now.innerHTML && !old.contains(document.activeElement)) {
      old.replaceWith(now);
    }
  }
}

async function keep() {
  try { await renew(); } catch { /* the service is away: the next look may find it */ }
  setTimeout(keep, PAUSE);
}

setTimeout(keep, PAUSE);
