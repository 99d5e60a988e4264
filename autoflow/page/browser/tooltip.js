// One tooltip for all dates: it shows what is under the pointer, has the focus, or was touched.

const tooltip = make("div", { class: "tooltip", role: "tooltip", id: "tooltip", hidden: true });
document.body.append(tooltip);

const hideTooltip = () => {
  tooltip.hidden = true;
  tooltip.owner = null;
};

// Show lines of text at an element.
const showTooltip = (element, lines) => {
  tooltip.owner = element;
  tooltip.replaceChildren(...lines.map((line, index) => make(index ? "p" : "strong", {}, isolated(line))));
  tooltip.hidden = false;
  placeTooltip();
};

// Put the tooltip above its element or, where there is no room, below it.
const placeTooltip = () => {
  if (tooltip.hidden) return;
  const around = tooltip.owner.getBoundingClientRect();
  const own = tooltip.getBoundingClientRect();
  const left = Math.min(
    Math.max(8, around.left + around.width / 2 - own.width / 2),
    document.documentElement.clientWidth - own.width - 8,
  );
  const above = around.top - own.height - 6;
  tooltip.style.left = `${Math.max(8, left)}px`;
  tooltip.style.top = `${above < 8 ? around.bottom + 6 : above}px`;
};

// Give the cells of a calendar tooltips. `linesOf` returns the text for a cell.
const addTooltips = (calendar, linesOf) => {
  const cellOf = (event) => event.target.closest?.(".cell");
  const show = (cell) => showTooltip(cell, linesOf(cell));
  calendar.addEventListener(
    "pointerover",
    (event) => cellOf(event) && event.pointerType !== "touch" && show(cellOf(event)),
  );
  calendar.addEventListener("pointerout", hideTooltip);
  calendar.addEventListener("focusin", (event) => cellOf(event)?.matches(":focus-visible") && show(cellOf(event)));
  calendar.addEventListener("focusout", hideTooltip);
  // The first touch shows the tooltip, the second one follows the link.
  calendar.addEventListener("pointerdown", (event) => {
    calendar.touched = event.pointerType === "touch" && tooltip.owner !== cellOf(event) ? cellOf(event) : null;
  });
  calendar.addEventListener("click", (event) => {
    if (!calendar.touched || calendar.touched !== cellOf(event)) return;
    event.preventDefault();
    show(calendar.touched);
  });
};

document.addEventListener("keydown", (event) => event.key === "Escape" && hideTooltip());
document.addEventListener("scroll", placeTooltip, { passive: true });
document.addEventListener("pointerdown", (event) => event.target.closest?.(".cell, .tooltip") || hideTooltip());
