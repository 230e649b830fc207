// The path of a value in a tree is copied by a button beside it, or by the key C.
export function trees() {
  if (!navigator.clipboard) return;
  const show = ({ target }) => {
    const line = target.closest?.(".node summary, .node .leaf");
    if (!line || line.querySelector(".copy")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.tabIndex = -1;
    button.textContent = "Copy path";
    line.append(button);
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".copy");
    if (!button) return;
    event.preventDefault(); // of a summary, which would fold
    copy(button);
  });
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("summary")?.querySelector(".copy");
    if (button && event.key === "c" && !event.ctrlKey && !event.metaKey) copy(button);
  });
}

async function copy(button) {
  await navigator.clipboard.writeText(button.closest(".node").dataset.path);
  button.textContent = "Copied";
}
