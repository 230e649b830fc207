// A menu closes when somebody looks elsewhere, or presses Escape.
export function menus() {
  document.addEventListener("click", (event) => close((menu) => !menu.contains(event.target)));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    close((menu) => {
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      return true;
    });
  });
}

function close(wanted) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (wanted(menu)) menu.open = false;
  }
}
