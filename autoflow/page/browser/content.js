// The catalogue, which is in the page, and the data of a year of an entry, which are in a file each.

const catalogue = JSON.parse(document.getElementById("content").textContent);
catalogue.parts ||= [];
catalogue.isWhole = catalogue.parts.length === 0; // of many entries, the page itself has the newest ones alone

// How each status is drawn. Statuses with the same look differ in their texts.
const LOOKS = {
  done: "done",
  skipped: "skipped",
  running: "running",
  due: "due",
  "waiting for a retry": "waiting",
  "waiting for data": "waiting",
  "waiting for an earlier date": "waiting",
  waiting: "waiting",
  "given up": "given-up",
  failed: "failed",
  cancelled: "cancelled",
  "dates missing": "missing",
  missing: "missing",
  "period not over": "outside",
  "before earliest_date": "outside",
  "after latest_date": "outside",
};
const NOT_RUN = "not run";
const NOT_KNOWN =
  "AutoFlow has not run this date: there is no data for it, or it is before earliest_date or after latest_date.";
const OUTDATED =
  "Days that this report uses have changed since. The new run with them failed, so this is the old report.";

const lookOf = (status) => LOOKS[status] || "other";

// A date as the data files have it, by name.
class Day {
  constructor([number, status, set, stamp, reason, missing = 0, isOutdated = 0, warnings = 0], data) {
    const [label, cell] = (reason >= 0 && data.places && data.places[reason]) || [];
    this.number = number;
    this.status = catalogue.statuses[status];
    this.stamp = stamp;
    this.set = set >= 0 ? data.sets[set] : [];
    this.isError = ["given up", "failed", "waiting for a retry"].includes(this.status);
    const text = reason >= 0 ? data.reasons[reason] : "";
    this.reason = this.isError ? text : capitalized(text);
    this.place = cell ? { label, cell } : null;
    this.missing = missing;
    this.isOutdated = Boolean(isOutdated);
    this.warnings = warnings;
  }

  // What a report has to be read with, as a look: outdated, warned, incomplete, or null.
  get note() {
    if (this.isOutdated) return "outdated";
    if (this.warnings && lookOf(this.status) === "done") return "warned";
    return this.missing && lookOf(this.status) === "done" ? "incomplete" : null;
  }

  get notes() {
    return [
      this.missing ? `${plural(this.missing, "day")} missing` : "",
      this.isOutdated ? "outdated" : "",
      this.warnings ? plural(this.warnings, "warning") : "",
    ].filter(Boolean);
  }
}

// What the page says about a date in one line; also for dates without a run, of which the data have no `day`.
const statusText = (day) => (day ? [day.status, ...day.notes].join(", ") : NOT_RUN);

// Return the name of an entry in addresses. Those without a label may share it; `entry.name` tells them apart.
const entryName = (entry) => (entry.label ? `${entry.workflow}:${entry.label}` : entry.workflow);

const yearsOf = (entry) =>
  Object.keys(entry.years)
    .map(Number)
    .sort((one, other) => one - other);

// The files call autoflow() with their name and their data.
const filesOnTheirWay = new Map();
window.autoflow = (name, data) => {
  filesOnTheirWay.get(name)?.(data);
  filesOnTheirWay.delete(name);
};

const loadFile = (name, version) =>
  new Promise((resolve, reject) => {
    const source = `page/${name.split("/").map(encodeURIComponent).join("/")}.js?v=${encodeURIComponent(version)}`;
    const script = make("script", { src: source });
    const fail = () => reject(new Error(`page/${name}.js, which belongs to this page, cannot be read.`));
    filesOnTheirWay.set(name, resolve);
    script.addEventListener("error", fail);
    script.addEventListener("load", () => (script.remove(), fail())); // no effect if the file has called autoflow()
    document.head.append(script);
  });

// Load the entries that the page itself does not have.
const loadCatalogue = async () => {
  const parts = catalogue.parts.map((version, number) => loadFile(`entries-${number}`, version));
  try {
    catalogue.entries = (await Promise.all(parts)).flat();
  } catch (error) {
    catalogue.problem = error.message;
  }
  catalogue.isWhole = true;
};

// Return, once it is loaded, a map from dates to days.
const loadedYears = new Map();
const loadYear = (entry, year) => {
  const name = `${entry.slug}/${year}`;
  if (!loadedYears.has(name)) {
    const found = loadFile(name, entry.years[year].v);
    loadedYears.set(
      name,
      found.then((data) => new Map(data.days.map((row) => [row[0], new Day(row, data)]))),
    );
  }
  return loadedYears.get(name);
};

const loadYears = async (entry, years) => {
  const maps = await Promise.all(years.filter((year) => year in entry.years).map((year) => loadYear(entry, year)));
  return new Map(maps.flatMap((map) => [...map]));
};
