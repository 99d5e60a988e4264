// The two views: a list of entries (all, or those of a workflow), and an entry with all of its years.

const CARDS_AT_FIRST = 12;
const ENTRIES_AT_FIRST = 20;
const MORE_AT_ONCE = 60;
const ROWS_IN_LIST = 3; // years that the list shows of a calendar with a row for each year

// Return a list to which a button adds items. `draw` makes the element of an item.
const growingList = (attributes, items, atFirst, draw, noun) => {
  const list = make("ul", attributes),
    button = make("button", { type: "button", class: "more" });
  let shown = 0;
  const grow = (count) => {
    const added = items.slice(shown, shown + count).map((item) => make("li", {}, draw(item)));
    list.append(...added);
    shown += added.length;
    button.textContent = `Show ${Math.min(MORE_AT_ONCE, items.length - shown)} more of ${plural(items.length, noun)}`;
    button.hidden = shown >= items.length;
    return added[0];
  };
  grow(atFirst);
  button.addEventListener("click", () => grow(MORE_AT_ONCE)?.querySelector("a:not([tabindex])")?.focus());
  return [list, button];
};

const headed = (id, text, ...content) => make("section", { "aria-labelledby": id }, make("h2", { id }, text), content);

const countOf = (entry, status) =>
  Object.values(entry.years).reduce((sum, { counts }) => sum + (counts[status] || 0), 0);

// Return how many dates have each of some statuses.
const countsOf = (entry, isWanted) =>
  catalogue.statuses
    .map((name, status) => [countOf(entry, status), name])
    .filter(([count, name]) => count && isWanted(name))
    .map(([count, name]) => `${count.toLocaleString("en")} ${name}`);

const attentionOf = (entry) => [
  entry.attention?.given_up ? badge("given-up", `${entry.attention.given_up} given up`) : null,
  entry.attention?.waiting ? badge("waiting", `${entry.attention.waiting} waiting`) : null,
  entry.removed ? badge("removed", "no longer in workflows.yml") : null,
];

const isOutside = (status) => ["missing", "outside"].includes(lookOf(status));

const factsOf = (entry, isWanted) =>
  make(
    "p",
    { class: "quiet facts" },
    make("code", {}, isolated(entry.name)),
    [`every ${entry.every}`, ...countsOf(entry, isWanted)].map((fact) => ` · ${fact}`),
  );

// Return the years that the list shows of an entry: the last ones, but none in the future, which typing mistakes make.
const yearsInList = (entry) => {
  const years = yearsOf(entry);
  const past = years.filter((year) => year <= Number(catalogue.made.slice(0, 4)));
  return (past.length ? past : years).slice(isByMonth(entry) ? -2 : entry.every === "year" ? -12 : -ROWS_IN_LIST);
};

const entryInList = (entry) => {
  const years = yearsInList(entry);
  const hasMore = yearsOf(entry).length > (isByMonth(entry) ? 1 : years.length);
  const parameters = parametersTable(entry, "unseen");
  return make(
    "article",
    { class: "entry" },
    make(
      "div",
      { class: "top" },
      make(
        "h3",
        { class: "title" },
        make("a", { href: addressOf(entry) }, isolated(entry.title)),
        " ",
        attentionOf(entry),
      ),
      hasMore
        ? make(
            "p",
            { class: "quiet" },
            make("a", { href: addressOf(entry), "aria-label": `All years: ${entry.title}` }, "All years"),
          )
        : null,
    ),
    entry.description ? make("p", { class: "description" }, isolated(entry.description)) : null,
    factsOf(entry, (status) => status === "done"),
    years.length ? calendarOf(entry, years, entry.title, isByMonth(entry)) : make("p", {}, "No date yet."),
    parameters ? make("details", {}, make("summary", {}, "Parameters"), parameters) : null,
  );
};

const tryOutsTable = () => {
  if (!catalogue.try_outs?.length) return null;
  const rows = catalogue.try_outs.map(({ name, parameters, period, status, note, links }) =>
    make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        isolated(name),
        parameters ? make("p", { class: "quiet" }, isolated(parameters)) : null,
      ),
      make("td", {}, period),
      make("td", {}, swatch(lookOf(status)), status, note ? make("p", { class: "note" }, note) : null),
      make("td", {}, fileList(links, `${name}, ${period}`)),
    ),
  );
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      ["Workflow", "Date", "Status", "Files"].map((text) => make("th", { scope: "col" }, text)),
    ),
  );
  return headed(
    "others",
    "Other runs",
    make("p", {}, "These runs were started by hand, with parameters that no entry of workflows.yml had."),
    make(
      "div",
      { class: "wide", tabindex: 0, role: "region", "aria-label": "Table of other runs" },
      make("table", {}, head, make("tbody", {}, rows)),
    ),
    catalogue.more_try_outs
      ? make(
          "p",
          { class: "quiet" },
          `${catalogue.more_try_outs} more: `,
          make("code", {}, "autoflow runs"),
          " lists them.",
        )
      : null,
  );
};

// The words of an entry among which the search looks.
const wordsOf = (entry) =>
  (entry.words ||= folded(
    [entry.title, entry.name, entryName(entry), entry.description, ...pairsOf(entry.parameters).flat()].join(" "),
  ));

const isFound = ({ workflow, label, search }) => {
  const words = folded(search).split(/\s+/).filter(Boolean);
  return (entry) =>
    (!workflow || entry.workflow === workflow) &&
    (!label || entry.label === label) &&
    words.every((word) => wordsOf(entry).includes(word));
};

// Return what the list view shows below the search.
const listView = (route) => {
  const entries = catalogue.entries.filter(isFound(route));
  const isFiltered = route.label || route.search;
  if (!catalogue.entries.length && !catalogue.try_outs?.length)
    return [make("h1", {}, "Latest reports"), make("p", {}, "No run has ended yet.")];
  const newest = entries
    .filter((entry) => entry.latest)
    .sort((one, other) => (one.latest.finished < other.latest.finished ? 1 : -1));
  const cards = growingList({ class: "cards" }, newest, CARDS_AT_FIRST, cardOf, "report");
  const calendars = growingList({ class: "entries" }, entries, ENTRIES_AT_FIRST, entryInList, "calendar");
  return [
    make("h1", { tabindex: -1 }, route.workflow ? [isolated(route.workflow)] : "Latest reports"),
    newest.length ? cards : make("p", {}, isFiltered ? "No report matches." : "No run has succeeded yet."),
    runningList(entries),
    catalogue.problem ? make("p", { class: "problem" }, `Some entries are missing: ${catalogue.problem}`) : null,
    catalogue.isWhole ? null : make("p", { class: "quiet", role: "status" }, "Loading the calendars…"),
    catalogue.isWhole && entries.length ? headed("calendars", "Calendars", legendOf(entries), calendars) : null,
    route.workflow || isFiltered ? null : tryOutsTable(),
  ];
};

const pathTo = (entry) =>
  make(
    "nav",
    { class: "path", "aria-label": "Where you are" },
    make(
      "ol",
      {},
      make("li", {}, make("a", { href: "#" }, "All reports")),
      entriesOf(entry.workflow).length > 1
        ? make("li", {}, make("a", { href: addressOfWorkflow(entry.workflow) }, isolated(entry.workflow)))
        : null,
      make("li", { "aria-current": "page" }, isolated(entry.label || entry.title)),
    ),
  );

// Return the parts of a long calendar: a year each of days and weeks, all years of longer periods in one.
const partsOf = (entry) => {
  const years = yearsOf(entry);
  return isByMonth(entry) ? years.reverse().map((year) => [year]) : years.length ? [years] : [];
};

const partView = (entry, years) => {
  const range = years.length > 1 ? `${years[0]}–${years[years.length - 1]}` : String(years[0]);
  const heading = years.length > 1 ? null : make("h2", {}, range);
  const part = make("section", { class: "part" }, heading, calendarOf(entry, years, `${entry.title}, ${range}`));
  part.years = years;
  return part;
};

const entryView = (entry) => {
  return [
    pathTo(entry),
    make("h1", { tabindex: -1 }, isolated(entry.title), " ", attentionOf(entry)),
    entry.description ? make("p", { class: "description" }, isolated(entry.description)) : null,
    factsOf(entry, (status) => !isOutside(status)),
    make(
      "div",
      { class: "beside" },
      entry.latest ? cardOf(entry, "Latest report") : make("p", {}, "No run has succeeded yet."),
      parametersTable(entry, null),
    ),
    runningList([entry]),
    yearsOf(entry).length ? legendOf([entry]) : make("p", { class: "legend" }, "No date yet."),
    partsOf(entry).map((years) => partView(entry, years)),
  ];
};
