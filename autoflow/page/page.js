"use strict";
(() => {
  const DAY = 86400000;
  const { states, series, reasons, places } = JSON.parse(document.getElementById("content").textContent);
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

  const reason = (set, number, time, index) => {
    const [label, cell] = places[index];
    const [, link, isReadable] = set.find((each) => each[0] === label) || [];
    const parts = [make("pre", {}, reasons[index])];
    if (cell && isReadable) {
      const href = `${asHtml(filled(link, number, time))}#cell-${cell}`;
      parts.push(make("p", {}, make("a", { href }, `Show cell ${cell} of ${label}`)));
    }
    return parts;
  };

  const show = (each, number, panel) => {
    const day = each.byNumber.get(number);
    panel.replaceChildren(make("p", {}, make("strong", {}, isoDate(number)), ": " + (day ? states[day[1]] : NOT_RUN)));
    if (!day) return;
    if (day[4] >= 0) panel.append(...reason(each.sets[day[2]], number, day[3], day[4]));
    if (each.sets[day[2]].length) panel.append(outputs(each.sets[day[2]], number, day[3]));
  };

  // Tab reaches one day of each calendar; the arrow keys move on from it.
  const calendar = (each, year, title, panel) => {
    const first = firstDay(year), end = firstDay(year + 1), start = first - weekday(first);
    const newest = each.days.find((day) => day[0] >= first && day[0] < end);
    const buttons = new Map();
    const table = make("table", { class: "calendar", role: "grid", "aria-label": `${title}, ${year}` });
    for (let row = 0; row < 7; row++) {
      const line = make("tr", { role: "row" });
      const name = make("th", { scope: "row", role: "rowheader", abbr: NAMES[row] }, NAMES[row].slice(0, 3));
      line.append(name);
      for (let number = start + row; number < end; number += 7) {
        const cell = make("td", { role: "gridcell" });
        if (number >= first) {
          const day = each.byNumber.get(number);
          const text = `${isoDate(number)}: ${day ? states[day[1]] : NOT_RUN}`;
          const button = make("button", { type: "button", class: "day", tabindex: -1, "aria-label": text, title: text });
          if (day) button.dataset.state = day[1];
          button.dataset.number = number;
          buttons.set(number, button);
          cell.append(button);
        }
        line.append(cell);
      }
      table.append(line);
    }
    let current = newest ? newest[0] : first;
    buttons.get(current).tabIndex = 0;
    const go = (number) => {
      if (!buttons.has(number)) return;
      buttons.get(current).tabIndex = -1;
      current = number;
      buttons.get(current).tabIndex = 0;
      buttons.get(current).focus();
    };
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      table.querySelectorAll('[aria-pressed="true"]').forEach((other) => other.removeAttribute("aria-pressed"));
      button.setAttribute("aria-pressed", "true");
      go(Number(button.dataset.number));
      show(each, current, panel);
    });
    const steps = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 };
    table.addEventListener("keydown", (event) => {
      const to = { Home: first, End: end - 1 }[event.key] ?? current + (steps[event.key] || 0);
      if (to === current) return;
      event.preventDefault();
      go(to);
    });
    return table;
  };

  const section = (each, index) => {
    const title = each.workflow + (each.parameters === "{}" ? "" : " " + each.parameters);
    const heading = make("h3", { id: `series-${index}` }, each.workflow);
    if (each.parameters !== "{}") heading.append(" ", make("code", {}, each.parameters));
    const years = [...new Set(each.days.map((day) => new Date(day[0] * DAY).getUTCFullYear()))];
    const select = make("select", { "aria-label": `Year, ${title}` });
    for (const year of years) select.append(make("option", { value: year }, year));
    // Open the year of the newest date that is done: a failed date may be years off because of a typing mistake.
    const opened = each.days.find((day) => day[1] === 0) || each.days[0];
    select.value = new Date(opened[0] * DAY).getUTCFullYear();
    const counts = states.map((name, state) => [each.days.filter((day) => day[1] === state).length, name]);
    const summary = counts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ");
    const grid = make("div", { class: "wide" });
    const panel = make("div", { class: "details", role: "status" });
    const draw = () => {
      grid.replaceChildren(calendar(each, Number(select.value), title, panel));
      panel.replaceChildren();
    };
    select.addEventListener("change", draw);
    const whole = make("section", { class: "series", "aria-labelledby": `series-${index}` });
    whole.append(make("div", { class: "top" }, heading, make("label", {}, "Year ", select)));
    whole.append(make("p", { class: "quiet" }, summary), grid, panel);
    // Draw a calendar only once it is near the visible part of the page.
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      each.byNumber = new Map(each.days.map((day) => [day[0], day]));
      draw();
    }, { rootMargin: "600px" });
    watch.observe(whole);
    return whole;
  };

  document.getElementById("series").append(...series.map(section));
})();
