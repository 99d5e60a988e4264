"use strict";
(() => {
  const DAY = 86400000;
  const catalogue = JSON.parse(document.getElementById("content").textContent);
  const states = catalogue.statuses;
  // The dates of an entry in a year are in a file of their own, a script that calls autoflow(NAME, DATA).
  const loading = new Map();
  window.autoflow = (name, data) => loading.get(name)?.resolve(data);
  const load = (entry, year) => {
    const name = `${entry.slug}/${year}`;
    if (!loading.has(name)) {
      const { promise, resolve } = Promise.withResolvers();
      loading.set(name, { promise, resolve });
      const script = document.createElement("script");
      script.src = `page/${encodeURIComponent(entry.slug)}/${year}.js?v=${entry.years[year].v}`;
      script.addEventListener("error", () => resolve({ reasons: [], places: [], sets: [], days: [] }));
      document.head.append(script);
    }
    return loading.get(name).promise;
  };
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const isoDate = (number) => new Date(number * DAY).toISOString().slice(0, 10);
  const weekday = (number) => (number + 3) % 7; // 1970-01-01 was a Thursday; 0 is Monday
  const firstDay = (year) => Date.UTC(year, 0, 1) / DAY;
  const NOT_RUN = "not run";
  const OUTDATED = "Days that this report uses have changed since, and a new run with them failed: this is the old report.";
  const HEADERS = {
    month: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    quarter: ["Q1", "Q2", "Q3", "Q4"],
  };
  // The first day of the period that ends on a day.
  const FIRST_DAYS = {
    day: (last) => last.getTime(),
    week: (last) => last.getTime() - 6 * DAY,
    month: (last) => Date.UTC(last.getUTCFullYear(), last.getUTCMonth(), 1),
    quarter: (last) => Date.UTC(last.getUTCFullYear(), last.getUTCMonth() - 2, 1),
    year: (last) => Date.UTC(last.getUTCFullYear(), 0, 1),
  };
  const NAMES = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

  const filled = (link, number, time) => link.replaceAll("{d}", isoDate(number)).replaceAll("{t}", time);
  const asHtml = (link) => link.replace(/\.ipynb$/, ".html");

  const outputs = (set, number, time) => {
    const fill = (link) => filled(link, number, time);
    const list = make("ul");
    for (const [label, link, isReadable, reports] of set) {
      const links = reports.map((report) => [report.split(".").pop().toUpperCase(), fill(report)]);
      if (isReadable) links.push(["notebook", asHtml(fill(link))]);
      links.push(["ipynb", fill(link)]);
      const item = make("li", {}, label + ":");
      for (const [text, href] of links) item.append(" ", make("a", { href, "aria-label": `${label}: ${text}` }, text));
      list.append(item);
    }
    return list;
  };

  const reason = (data, set, number, time, index) => {
    const [label, cell] = data.places[index];
    const [, link, isReadable] = set.find((each) => each[0] === label) || [];
    const parts = [make("pre", {}, data.reasons[index])];
    if (cell && isReadable) {
      const href = `${asHtml(filled(link, number, time))}#cell-${cell}`;
      parts.push(make("p", {}, make("a", { href }, `Show cell ${cell} of ${label}`)));
    }
    return parts;
  };

  const period = (each, number) => {
    const first = FIRST_DAYS[each.every](new Date(number * DAY));
    return each.every === "day" ? isoDate(number) : `${each.every} ${isoDate(first / DAY)} to ${isoDate(number)}`;
  };
  const text = (each, number) => {
    const day = each.byNumber.get(number);
    if (!day) return NOT_RUN;
    const [, state, , , , missing, isOutdated] = day;
    const notes = [missing ? `${missing} day${missing === 1 ? "" : "s"} missing` : "", isOutdated ? "outdated" : ""];
    return [states[state], ...notes.filter(Boolean)].join(", ");
  };

  const show = (each, number, panel) => {
    const day = each.byNumber.get(number);
    const name = make("strong", {}, period(each, number));
    panel.replaceChildren(make("p", {}, name, ": " + text(each, number)));
    if (!day) return;
    if (day[6]) panel.append(make("p", { class: "note" }, OUTDATED));
    const data = each.dataOf.get(number), set = day[2] < 0 ? [] : data.sets[day[2]];
    if (day[4] >= 0) panel.append(...reason(data, set, number, day[3], day[4]));
    if (set.length) panel.append(outputs(set, number, day[3]));
  };

  // A calendar of days has a row for each weekday, and one year; others have a row for each year.
  const dayRows = (each, year) => {
    const first = firstDay(year), end = firstDay(year + 1), start = first - weekday(first);
    return NAMES.map((name, row) => {
      const numbers = [];
      for (let number = start + row; number < end; number += 7) numbers.push(number >= first ? number : null);
      return { name: name.slice(0, 3), abbr: name, numbers };
    });
  };
  const lastDays = (each, year) => {
    const months = { month: 1, quarter: 3, year: 12 }[each.every];
    if (months) return Array.from({ length: 12 / months }, (_, index) => Date.UTC(year, (index + 1) * months, 0) / DAY);
    const first = firstDay(year), numbers = [];
    const [last] = each.byNumber.keys();
    const start = first + ((last - first) % 7 + 7) % 7;
    for (let number = start; number < firstDay(year + 1); number += 7) numbers.push(number);
    return numbers;
  };
  const periodRows = (each, years) =>
    [...years].reverse().map((year) => ({ name: String(year), abbr: String(year), numbers: lastDays(each, year) }));

  const button = (each, number) => {
    const day = each.byNumber.get(number);
    const label = `${period(each, number)}: ${text(each, number)}`;
    const element = make("button", { type: "button", class: "day", tabindex: -1, "aria-label": label, title: label });
    if (day) element.dataset.state = day[1];
    if (day && (day[5] || day[6])) element.dataset.note = "";
    element.dataset.number = number;
    return element;
  };

  // Tab reaches one date of each calendar; the arrow keys move on from it.
  const calendar = (each, rows, title, panel) => {
    const places = new Map();
    const table = make("table", { class: `calendar ${each.every}s`, role: "grid", "aria-label": title });
    if (HEADERS[each.every]) {
      const cells = HEADERS[each.every].map((name) => make("th", { scope: "col", role: "columnheader" }, name));
      table.append(make("tr", { role: "row" }, make("th", { role: "columnheader" }), ...cells));
    }
    rows.forEach(({ name, abbr, numbers }, row) => {
      const line = make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader", abbr }, name));
      numbers.forEach((number, column) => {
        const cell = make("td", { role: "gridcell" });
        if (number !== null) {
          const element = button(each, number);
          places.set(number, { element, row, column });
          cell.append(element);
        }
        line.append(cell);
      });
      table.append(line);
    });
    const order = [...places.keys()].sort((one, other) => one - other);
    const newest = order.filter((number) => each.byNumber.has(number)).pop();
    let current = newest ?? order[0];
    places.get(current).element.tabIndex = 0;
    const go = (number) => {
      if (!places.has(number)) return;
      places.get(current).element.tabIndex = -1;
      current = number;
      places.get(current).element.tabIndex = 0;
      places.get(current).element.focus();
    };
    table.addEventListener("click", (event) => {
      const element = event.target.closest("button");
      if (!element) return;
      table.querySelectorAll('[aria-pressed="true"]').forEach((other) => other.removeAttribute("aria-pressed"));
      element.setAttribute("aria-pressed", "true");
      go(Number(element.dataset.number));
      show(each, current, panel);
    });
    // Along the time in both directions: by days and weeks, or by periods and years.
    const next = (step) => order[order.indexOf(current) + step];
    const beside = (step) => rows[places.get(current).row + step]?.numbers[places.get(current).column];
    const keys = {
      Home: () => order[0],
      End: () => order[order.length - 1],
      ArrowLeft: () => (each.every === "day" ? current - 7 : next(-1)),
      ArrowRight: () => (each.every === "day" ? current + 7 : next(1)),
      ArrowUp: () => (each.every === "day" ? current - 1 : beside(-1)),
      ArrowDown: () => (each.every === "day" ? current + 1 : beside(1)),
    };
    table.addEventListener("keydown", (event) => {
      if (!(event.key in keys)) return;
      event.preventDefault();
      go(keys[event.key]());
    });
    return table;
  };

  const section = (each, index) => {
    const heading = make("h3", { id: `series-${index}` }, each.title);
    const years = Object.keys(each.years).map(Number).sort((one, other) => other - one);
    const counts = states.map((name, state) =>
      [years.reduce((sum, year) => sum + (each.years[year].counts[state] || 0), 0), name]);
    const summary = counts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ");
    const about = Object.entries(each.parameters)
      .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    if (each.every !== "day") about.unshift(`every ${each.every}`);
    const grid = make("div", { class: "wide" });
    const panel = make("div", { class: "details", role: "status" });
    const top = make("div", { class: "top" }, heading);
    const whole = make("section", { class: "series", "aria-labelledby": `series-${index}` }, top);
    if (each.description) whole.append(make("p", {}, each.description));
    const name = make("code", {}, each.name);
    const parameters = about.length ? `; ${about.join(", ")}` : "";
    whole.append(make("p", { class: "quiet" }, name, parameters, ` – ${summary}`), grid, panel);
    if (!years.length) return whole;
    each.byNumber = new Map();
    each.dataOf = new Map();
    const loaded = async (wanted) => {
      for (const data of await Promise.all(wanted.map((year) => load(each, year)))) {
        for (const day of data.days) {
          each.byNumber.set(day[0], day);
          each.dataOf.set(day[0], data);
        }
      }
    };
    let draw = async () => {
      await loaded(years);
      grid.replaceChildren(calendar(each, periodRows(each, years), each.title, panel));
    };
    if (each.every === "day") {
      const select = make("select", { "aria-label": `Year, ${each.title}` });
      for (const year of years) select.append(make("option", { value: year }, year));
      // Open the newest year with a date that is done: a failed date may be years off because of a typing mistake.
      select.value = years.find((year) => each.years[year].counts[0]) ?? years[0];
      top.append(make("label", {}, "Year ", select));
      draw = async () => {
        const year = Number(select.value);
        await loaded([year]);
        grid.replaceChildren(calendar(each, dayRows(each, year), `${each.title}, ${year}`, panel));
        panel.replaceChildren();
      };
      select.addEventListener("change", draw);
    }
    // Draw a calendar only once it is near the visible part of the page.
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      draw();
    }, { rootMargin: "600px" });
    watch.observe(whole);
    return whole;
  };

  const whole = (text) => text.split(" ").flatMap((word) => [make("span", { class: "whole" }, word), " "]);
  const note = (text) => (text ? [make("p", { class: "note" }, text)] : []);
  const row = (name, about, period, cells) =>
    make("tr", {}, make("th", { scope: "row" }, name, ...(about ? [make("p", { class: "quiet" }, about)] : [])),
      make("td", {}, ...whole(period.period), ...(cells.length < 2 ? note(period.note) : [])),
      ...cells.map((cell) => make("td", {}, ...cell)));
  const links = (each) => each.links.flatMap(([kind, label, href]) =>
    [make("a", { href }, `${label} (${kind})`), " "]);
  const table = (label, headers, rows) =>
    make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": label }, make("table", {},
      make("thead", {}, make("tr", {}, ...headers.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows)));

  const done = catalogue.entries.filter((each) => each.latest);
  document.getElementById("reports").append(done.length
    ? table("Latest reports", ["Title", "Date", "Report"],
      done.map((each) => row(each.title, each.description, each.latest, [links(each.latest)])))
    : make("p", {}, "No run has succeeded yet."));
  if (catalogue.try_outs.length) {
    const more = catalogue.more_try_outs;
    document.getElementById("try-outs").append(make("section", { "aria-labelledby": "others" },
      make("h2", { id: "others" }, "Other runs"),
      make("p", {}, "These runs were started by hand, with parameters that no entry of workflows.yml had."),
      table("Other runs", ["Workflow", "Date", "Status", "Report"], catalogue.try_outs.map((each) =>
        row(each.name, each.parameters, each, [[each.status, ...note(each.note)], links(each)]))),
      ...(more ? [make("p", { class: "quiet" }, `${more} more: `, make("code", {}, "autoflow runs"), " lists them.")] : [])));
  }
  document.getElementById("series").append(...catalogue.entries.map(section));
})();
