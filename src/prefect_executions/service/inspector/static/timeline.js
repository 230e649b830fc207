// The marks of a timeline are walked by the arrow keys, and what is pointed at is told below it.
export function timelines() {
  for (const event of ["pointerover", "focusin"]) {
    document.addEventListener(event, ({ target }) => {
      const mark = target.closest?.(".timeline :is(a, rect, g.crash, path.arrow)");
      const told = mark?.closest(".drawing")?.querySelector(".pointed");
      const title = (mark?.closest("a") ?? mark)?.querySelector("title");
      if (told && title) told.textContent = title.textContent;
    });
  }
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const here = document.activeElement?.closest?.(".timeline a");
    if (!step || !here) return;
    const marks = [...here.closest(".timeline").querySelectorAll("a")];
    const next = marks[marks.indexOf(here) + step];
    if (!next) return;
    event.preventDefault();
    here.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
