// Shows what the address says, and follows it: links, the back button, and the search form.

const view = document.getElementById("view");
const search = document.getElementById("search");
const news = document.getElementById("news");
let shownRoute = null;

const optionsOf = (select, all, values, chosen) =>
  select.replaceChildren(
    make("option", { value: "" }, all),
    ...values.map((value) => make("option", { value, selected: value === chosen }, value)),
  );

const inOrder = new Intl.Collator("en", { numeric: true }).compare;

const fillSearch = (route) => {
  const { text, workflow, label } = search.elements;
  const workflows = [...new Set(catalogue.entries.map((entry) => entry.workflow))];
  const ofWorkflow = route.workflow ? entriesOf(route.workflow) : catalogue.entries;
  const labels = [...new Set(ofWorkflow.map((entry) => entry.label).filter(Boolean))].sort(inOrder);
  optionsOf(workflow, "All workflows", workflows, route.workflow);
  optionsOf(label, "All labels", labels, route.label);
  workflow.parentElement.hidden = catalogue.isWhole && workflows.length < 2;
  label.parentElement.hidden = catalogue.isWhole && labels.length < 2;
  if (text.value !== route.search) text.value = route.search;
};

const showList = (route) => {
  search.hidden = catalogue.entries.length < 2;
  fillSearch(route);
  view.replaceChildren(...listView(route).flat().filter(Boolean));
  const count = catalogue.entries.filter(isFound(route)).length;
  const isFiltered = route.search || route.label || route.workflow;
  news.textContent = route.isUnknown
    ? "This page has no such workflow; it shows all of them."
    : isFiltered
      ? `${plural(count, "match").replace("matchs", "matches")}`
      : "";
  news.className = "quiet";
  document.title = route.workflow ? `${route.workflow} – AutoFlow reports` : "AutoFlow reports";
};

const showEntry = (entry) => {
  search.hidden = true;
  news.textContent = "";
  news.className = "unseen";
  view.replaceChildren(...entryView(entry).flat().filter(Boolean));
};

// Show the details of a date below its calendar, or remove them.
const showDate = async (entry, number) => {
  document.title = `${entry.title}${number === null ? "" : `, ${periodName(entry.every, number)}`} – AutoFlow reports`;
  view.querySelector(".details")?.remove();
  view.querySelector(".cell[aria-current]")?.removeAttribute("aria-current");
  if (number === null) return;
  const part = [...view.querySelectorAll(".part")].find((each) =>
    each.dataset.years.split(" ").includes(String(yearOf(number))),
  );
  if (!part) {
    news.textContent = `${isoDate(number)}: ${NOT_RUN}`;
    return;
  }
  const route = shownRoute;
  await part.querySelector(".calendar").draw();
  const days = await loadYears(entry, part.dataset.years.split(" ").map(Number)).catch(() => new Map());
  if (route !== shownRoute) return;
  const order = [...days.keys()].sort((one, other) => one - other);
  const details = detailsOf(entry, number, days.get(number), order);
  part.append(details);
  const cell = part.querySelector(`[data-date="${isoDate(number)}"]`);
  cell?.setAttribute("aria-current", "date");
  news.textContent = `${periodName(entry.every, number)}: ${statusText(days.get(number))}`;
};

const follow = async () => {
  const before = shownRoute,
    route = routeOf(location.hash);
  shownRoute = route;
  hideTooltip();
  const isSameEntry = before && before.entry && before.entry === route.entry;
  if (!isSameEntry) route.entry ? showEntry(route.entry) : showList(route);
  if (route.entry) await showDate(route.entry, route.date);
  if (!before || isSameEntry) return;
  window.scrollTo(0, history.state?.scroll ?? 0);
  if (!search.contains(document.activeElement)) view.querySelector("h1")?.focus({ preventScroll: true });
};

// Remember for the back button how far each view was scrolled.
history.scrollRestoration = "manual";
let scrollTimer;
addEventListener(
  "scroll",
  () => {
    clearTimeout(scrollTimer);
    scrollTimer = setTimeout(() => history.replaceState({ scroll: scrollY }, ""), 100);
  },
  { passive: true },
);

const addressFromSearch = () => {
  const { text, workflow, label } = search.elements;
  return addressOfList({ workflow: workflow.value, label: label.value, search: text.value });
};
search.addEventListener("submit", (event) => event.preventDefault());
search.elements.text.addEventListener("input", () => {
  history.replaceState(history.state, "", addressFromSearch());
  shownRoute = routeOf(location.hash);
  showList(shownRoute);
});
search.addEventListener("change", ({ target }) => {
  const { text, workflow, label } = search.elements;
  if (target === workflow) label.value = "";
  if (target !== text) location.hash = addressFromSearch();
});

const start = async () => {
  const { entry, workflow, label, search: words, isUnknown } = routeOf(location.hash);
  const showsNewest = !entry && !workflow && !label && !words && !isUnknown;
  if (catalogue.isWhole || showsNewest) await follow();
  if (!catalogue.isWhole) {
    await loadCatalogue();
    shownRoute = null;
    await follow();
  }
  addEventListener("hashchange", follow);
};

addEventListener("beforeprint", () => view.querySelectorAll(".calendar").forEach((place) => place.draw()));
start();
