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
  view.entry = null;
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
  view.entry = entry;
};

const partOf = (number) => [...view.querySelectorAll(".part")].find((part) => part.years.includes(yearOf(number)));

// Show the details of a date below its calendar, or remove them. Return them.
const showDate = (entry, number, days) => {
  document.title = `${entry.title}${number === null ? "" : `, ${periodName(entry.every, number)}`} – AutoFlow reports`;
  view.querySelector(".details")?.remove();
  view.querySelector(".cell[aria-current]")?.removeAttribute("aria-current");
  if (number === null) return null;
  const order = [...days.keys()].sort((one, other) => one - other);
  const details = detailsOf(entry, number, days.get(number), order);
  const part = partOf(number);
  if (part) part.append(details);
  else view.querySelector(".legend").after(details);
  part?.querySelector(`[data-date="${isoDate(number)}"]`)?.setAttribute("aria-current", "date");
  news.textContent = `${periodName(entry.every, number)}: ${statusText(days.get(number))}`;
  return details;
};

// Show the entry of a route and its date. Everything is there at once, so that nothing jumps.
const showEntryAndDate = async (route) => {
  const { entry } = route;
  const number = route.date === null ? null : endOfPeriod(entry.every, route.date, anyDateOf(entry, new Map()));
  const years = partsOf(entry).find((each) => number !== null && each.includes(yearOf(number))) || [];
  const days = await loadYears(entry, years).catch(() => new Map());
  if (route !== shownRoute) return;
  if (view.entry !== entry) showEntry(entry);
  await partOf(number)?.querySelector(".calendar").draw();
  const hadFocus = view.querySelector(".details")?.contains(document.activeElement);
  const details = showDate(entry, number, days);
  if (hadFocus) details?.querySelector("h3").focus({ preventScroll: true });
};

const follow = async () => {
  const route = routeOf(location.hash);
  const isFirst = shownRoute === null;
  const isNew = !route.entry || route.entry !== view.entry;
  shownRoute = route;
  hideTooltip();
  if (route.entry) await showEntryAndDate(route);
  else showList(route);
  if (route !== shownRoute) return;
  const details = view.querySelector(".details");
  if (!isNew) details?.scrollIntoView({ block: "nearest" });
  else if (history.state?.scroll !== undefined) scrollTo(0, history.state.scroll);
  else if (details) details.scrollIntoView({ block: "center" });
  else scrollTo(0, 0);
  if (isNew && !isFirst && !search.contains(document.activeElement)) {
    (details?.querySelector("h3") || view.querySelector("h1")).focus({ preventScroll: true });
  }
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
