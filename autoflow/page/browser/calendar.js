// Calendars. One of days or weeks shows twelve months, by month; others show several years, a row for each.

const isByMonth = (entry) => entry.every === "day" || entry.every === "week";

// Return the first of the twelve months that a calendar shows, as a year and a month from 0: those of the year or, if
// only the newest are wanted, those up to the newest date. There are none before the first date.
const firstMonth = (years, days, onlyNewest) => {
  const numbers = [...days.values()].filter((day) => lookOf(day.status) !== "outside").map((day) => day.number);
  if (!onlyNewest || !numbers.length) return [years[years.length - 1], 0];
  const newest = Math.max(...numbers),
    oldest = Math.min(...numbers);
  const start = Math.max(
    dateOf(yearOf(newest) - 1, monthOf(newest) + 1, 1),
    dateOf(yearOf(oldest), monthOf(oldest), 1),
  );
  return [yearOf(start), monthOf(start)];
};

// Return the rows of a calendar, each with its name and its dates.
const rowsOf = (entry, years, days, onlyNewest) => {
  if (isByMonth(entry)) return monthRows(entry, firstMonth(years, days, onlyNewest), anyDateOf(entry, days));
  const inOrder = entry.every === "year" ? years : [...years].reverse();
  return inOrder.map((year) => ({ name: String(year), short: String(year), dates: periodEnds(entry.every, year) }));
};

const monthRows = (entry, [year, month], known) => {
  const ends = [...periodEnds(entry.every, year, known), ...periodEnds(entry.every, year + 1, known)];
  return Array.from({ length: 12 }, (_, index) => {
    const first = dateOf(year, month + index, 1),
      next = dateOf(year, month + index + 1, 1);
    const name = SHORT_MONTHS[monthOf(first)],
      isFirstOfYear = index === 0 || monthOf(first) === 0;
    return {
      name: `${MONTHS[monthOf(first)]} ${yearOf(first)}`,
      short: isFirstOfYear && month % 12 ? `${name} ${yearOf(first)}` : name,
      dates: ends.filter((date) => date >= first && date < next),
    };
  });
};

// Return a date of the entry: it decides on which day of the week its weeks end.
const anyDateOf = (entry, days) =>
  entry.latest ? numberOf(entry.latest.date) : (days.keys().next().value ?? dateOf(1970, 0, 4));

// The names above the columns, where all rows have the same.
const COLUMNS = { month: SHORT_MONTHS, quarter: ["Q1", "Q2", "Q3", "Q4"] };

const cellFor = (entry, number, day) => {
  const lines = [periodName(entry.every, number), capitalized(statusText(day)), shortened(day ? day.reason : "")];
  const attributes = {
    class: "cell look",
    href: addressOfDate(entry, number),
    tabindex: -1,
    "data-date": isoDate(number),
    "data-look": day ? lookOf(day.status) : "none",
    "data-note": day?.note,
    "aria-label": lines.filter(Boolean).join(": "),
  };
  const cell = make("a", attributes);
  cell.lines = lines.filter(Boolean);
  return cell;
};

const LONGEST_IN_TOOLTIP = 240;
const shortened = (text) => (text.length > LONGEST_IN_TOOLTIP ? `${text.slice(0, LONGEST_IN_TOOLTIP)}…` : text);

// Draw the calendar of an entry for some years (in order) into `place`, which has its size already.
const drawCalendar = (place, entry, years, days, onlyNewest) => {
  const cells = new Map();
  const rows = rowsOf(entry, years, days, onlyNewest).map(({ name, short, dates }, row) => {
    const line = make(
      "div",
      { role: "row", class: "row" },
      make("span", { role: "rowheader", class: "name", "aria-label": name }, short),
    );
    dates.forEach((number, column) => {
      const cell = cellFor(entry, number, days.get(number));
      cells.set(number, { cell, row, column });
      line.append(
        make(
          "span",
          { role: "gridcell", "data-weekday": entry.every === "day" && !column ? weekday(number) : null },
          cell,
        ),
      );
    });
    return line;
  });
  if (entry.every in COLUMNS) rows.unshift(headerRow(COLUMNS[entry.every]));
  place.replaceChildren(...rows);
  addTooltips(place, (cell) => cell.lines);
  addArrowKeys(place, entry, cells, days);
};

const headerRow = (columns) =>
  make(
    "div",
    { role: "row", class: "row header" },
    make("span", { role: "columnheader" }, make("span", { class: "unseen" }, "Year")),
    columns.map((name) => make("span", { role: "columnheader" }, name)),
  );

// Tab reaches one date of each calendar; the arrow keys move on from it, as the dates are laid out.
const addArrowKeys = (place, entry, cells, days) => {
  const order = [...cells.keys()].sort((one, other) => one - other);
  const newest = [...days.keys()].filter((number) => cells.has(number)).sort((one, other) => other - one);
  const isDone = (number) => days.get(number).status === "done";
  let current = newest.find(isDone) ?? newest[0] ?? order[0];
  cells.get(current).cell.tabIndex = 0;
  const beside = (step) => {
    const { row, column } = cells.get(current);
    return order.find((number) => cells.get(number).row === row + step && cells.get(number).column === column);
  };
  const along = (step) => order[order.indexOf(current) + step];
  const byWeeks = entry.every === "day";
  const moves = {
    Home: () => order[0],
    End: () => order[order.length - 1],
    ArrowLeft: () => (byWeeks ? current - 7 : along(-1)),
    ArrowRight: () => (byWeeks ? current + 7 : along(1)),
    ArrowUp: () => (byWeeks ? current - 1 : beside(-1)),
    ArrowDown: () => (byWeeks ? current + 1 : beside(1)),
  };
  place.addEventListener("keydown", (event) => {
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (cells.has(next)) cells.get(next).cell.focus();
  });
  place.addEventListener("focusin", (event) => {
    const found = event.target.closest(".cell");
    if (!found) return;
    cells.get(current).cell.tabIndex = -1;
    current = numberOf(found.dataset.date);
    found.tabIndex = 0;
  });
};

// Return the place of a calendar. It has its size from the beginning, and is drawn once it comes near the screen.
const calendarOf = (entry, years, title, onlyNewest = false) => {
  const place = make("div", {
    class: `calendar by-${entry.every}`,
    role: "grid",
    "aria-label": title,
    "aria-busy": "true",
  });
  place.style.setProperty("--years", years.length);
  place.draw = () => (place.drawn ||= draw(place, entry, years, onlyNewest));
  nearScreen.observe(place);
  whenIdle(() => loadYears(entry, years).catch(() => {})); // so that printing can draw it at once
  return place;
};

const whenIdle = window.requestIdleCallback || setTimeout; // Safari has no requestIdleCallback

const draw = async (place, entry, years, onlyNewest) => {
  nearScreen.unobserve(place);
  try {
    drawCalendar(place, entry, years, await loadYears(entry, years), onlyNewest);
  } catch (error) {
    place.removeAttribute("role");
    place.replaceChildren(make("p", { class: "problem" }, `This calendar is missing: ${error.message}`));
  }
  place.removeAttribute("aria-busy");
};

const nearScreen = new IntersectionObserver(
  (found) => found.filter((each) => each.isIntersecting).forEach((each) => each.target.draw()),
  { rootMargin: "600px" },
);

// Return what the looks mean, with the statuses that occur.
const legendOf = (entries) => {
  const counts = entries.flatMap((entry) => Object.values(entry.years).map((year) => year.counts));
  const statuses = catalogue.statuses.filter((_, status) => counts.some((ofYear) => ofYear[status]));
  const byLook = new Map(
    Object.values(LOOKS).map((look) => [look, statuses.filter((status) => lookOf(status) === look)]),
  );
  byLook.delete("done");
  const meanings = [
    ["done", "done"],
    ["warned", "done, with warnings"],
    ["incomplete", "done, with days missing"],
    ["outdated", "done, data has changed since"],
    ...[...byLook].filter(([, ofLook]) => ofLook.length).map(([look, ofLook]) => [look, ofLook.join(" or ")]),
    ["none", NOT_RUN],
  ];
  const items = meanings.map(([look, meaning]) => make("li", {}, swatch(look), meaning));
  return make("ul", { class: "legend", "aria-label": "Legend" }, items);
};

const swatch = (look) => {
  const isNote = ["warned", "incomplete", "outdated"].includes(look);
  return make("span", {
    class: "swatch look",
    "data-look": isNote ? "done" : look,
    "data-note": isNote ? look : null,
    "aria-hidden": "true",
  });
};
