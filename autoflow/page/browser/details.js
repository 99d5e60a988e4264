// The details of a date: why it has its status, and its files.

const filled = (link, day) => link.replaceAll("{d}", isoDate(day.number)).replaceAll("{t}", day.stamp);
const asHtml = (link) => link.replace(/\.ipynb$/, ".html");

const linksOf = (day) =>
  day.set.flatMap(([label, link, isReadable, reports]) => [
    ...reports.map((report) => [report.split(".").pop().toUpperCase(), label, filled(report, day)]),
    ...(isReadable ? [["notebook", label, asHtml(filled(link, day))]] : []),
    // An executed notebook that is no longer kept has no link.
    ...(link ? [["ipynb", label, filled(link, day)]] : []),
  ]);

// Return a link into the notebook, at the cell that failed.
const linkToCell = (day) => {
  if (!day.place) return null;
  const { label, cell } = day.place;
  const [, link, isReadable] = day.set.find((each) => each[0] === label) || [];
  if (!isReadable) return null;
  return make(
    "p",
    {},
    make("a", { href: `${asHtml(filled(link, day))}#cell-${cell}` }, `Show cell ${cell} of `, isolated(label)),
  );
};

const reasonOf = (day) => {
  if (!day.reason) return null;
  if (!day.isError) return make("p", { class: "reason" }, isolated(day.reason));
  return make("pre", { class: "reason", tabindex: 0, role: "group", "aria-label": "Error" }, isolated(day.reason));
};

const progressOf = (entry, number) => entry.running.find(({ date }) => numberOf(date) === number)?.progress;

const neighbour = (entry, number, text, rel) =>
  number === undefined ? null : make("a", { class: "neighbour", rel, href: addressOfDate(entry, number) }, text);

// Return the details of a date. `order` has the dates that have a status, in order.
const detailsOf = (entry, number, day, order) => {
  const name = periodName(entry.every, number);
  const look = day ? day.note || lookOf(day.status) : "none";
  const links = day ? linksOf(day) : [];
  return make(
    "section",
    { class: "details", "aria-labelledby": "date" },
    make(
      "div",
      { class: "top" },
      make("h3", { id: "date", tabindex: -1 }, name),
      make(
        "nav",
        { "aria-label": "Dates" },
        neighbour(
          entry,
          order.findLast((other) => other < number),
          "← Earlier",
          "prev",
        ),
        neighbour(
          entry,
          order.find((other) => other > number),
          "Later →",
          "next",
        ),
      ),
    ),
    make(
      "p",
      { class: "status" },
      swatch(look),
      [capitalized(statusText(day)), progressOf(entry, number)].filter(Boolean).join(": "),
    ),
    day && day.isOutdated ? make("p", { class: "note" }, OUTDATED) : null,
    day ? reasonOf(day) : make("p", {}, NOT_KNOWN),
    day ? linkToCell(day) : null,
    links.length ? fileList(links, name) : null,
    make("p", { class: "quiet" }, make("code", {}, isolated(`${entry.name} ${isoDate(number)}`))),
  );
};
