// What readers came for: the newest report of each entry, as a card; files of a date; parameters.

const KINDS = { PDF: "PDF", HTML: "HTML", notebook: "Notebook", ipynb: "ipynb" };

// Return links to the files of each notebook. Its label stands before them where there are several.
const fileList = (links, name) => {
  const byLabel = new Map();
  for (const link of links) byLabel.set(link[1], [...(byLabel.get(link[1]) || []), link]);
  const items = [...byLabel].map(([label, ofLabel]) =>
    make(
      "li",
      {},
      make("span", { class: byLabel.size > 1 ? "label" : "unseen" }, isolated(label)),
      ofLabel.map(([kind, , href]) =>
        make(
          "a",
          {
            href,
            class: `file ${kind === "PDF" ? "main" : ""}`,
            "aria-label": `${KINDS[kind] || kind}: ${label}, ${name}`,
          },
          KINDS[kind] || kind,
        ),
      ),
    ),
  );
  return make("ul", { class: "files" }, items);
};

const LINKS_ON_CARD = 6;

const thumbnailOf = (entry) => {
  const { thumbnail, links } = entry.latest;
  const [, , href] = links.find(([kind]) => kind === "PDF") ||
    links[0] || [null, null, addressOfDate(entry, numberOf(entry.latest.date))];
  const words = periodInShort(entry.every, numberOf(entry.latest.date)).map((part) => make("span", {}, part));
  const cover = make("span", { class: "cover" }, words);
  const picture = make("img", { src: thumbnail, alt: "", loading: "lazy", decoding: "async" });
  picture.addEventListener("error", () => picture.replaceWith(cover));
  const attributes = { class: "thumbnail", href, tabindex: -1, "aria-hidden": "true" };
  return make("a", attributes, thumbnail ? picture : cover);
};

const notesOf = ({ missing, warnings, note }) =>
  missing || warnings || note
    ? make(
        "p",
        { class: "note" },
        missing ? badge("incomplete", "incomplete") : null,
        warnings ? badge("warned", plural(warnings, "warning")) : null,
        " ",
        isolated(note),
      )
    : null;

// Return the card of an entry. Its title is that of the entry, which links to its calendars, or the one given.
const cardOf = (entry, heading = null) => {
  const { date, links, finished } = entry.latest;
  const period = periodName(entry.every, numberOf(date));
  const title = heading || make("a", { href: addressOf(entry) }, isolated(entry.title));
  const shown = links.slice(0, LINKS_ON_CARD);
  const more =
    links.length > shown.length
      ? make("a", { href: addressOfDate(entry, numberOf(date)) }, `All ${links.length} files`)
      : null;
  return make(
    "article",
    { class: "card" },
    thumbnailOf(entry),
    make(
      "div",
      { class: "about" },
      make("h2", { class: "title" }, title),
      make("p", { class: "period" }, make("time", { datetime: date }, period)),
      notesOf(entry.latest),
      fileList(shown, `${entry.title}, ${period}`),
      more,
      make("p", { class: "quiet made" }, "Made ", timeOf(finished)),
    ),
  );
};

const timeOf = (iso) =>
  make("time", { datetime: iso }, `${dayName(numberOf(iso.slice(0, 10)))}, ${iso.slice(11, 16)} UTC`);

// Return the parameters as pairs of names and texts; what is nested has a name of several parts.
const pairsOf = (value, name = "") => {
  if (value === null || typeof value !== "object") return [[name, textOf(value)]];
  const entries = Object.entries(value);
  if (!entries.length) return [[name, "none"]];
  const isList = Array.isArray(value);
  if (isList && entries.every(([, item]) => item === null || typeof item !== "object"))
    return [[name, value.map(textOf).join(", ")]];
  return entries.flatMap(([key, item]) =>
    pairsOf(item, [name, isList ? Number(key) + 1 : key].filter((part) => part !== "").join(" › ")),
  );
};
const textOf = (value) =>
  value === null ? "none" : value === true ? "yes" : value === false ? "no" : value === "" ? "(empty)" : String(value);

// Return a name that breaks after its underscores, if at all.
const breakable = (name) =>
  make(
    "bdi",
    {},
    name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]),
  );

const parametersTable = (entry, captionClass) => {
  const pairs = pairsOf(entry.parameters).filter(([name]) => name);
  if (!pairs.length) return null;
  const rows = pairs.map(([name, text]) =>
    make("tr", {}, make("th", { scope: "row" }, breakable(name)), make("td", {}, isolated(text))),
  );
  return make(
    "table",
    { class: "parameters" },
    make("caption", { class: captionClass }, "Parameters"),
    make("tbody", {}, rows),
  );
};

const runningList = (entries) => {
  const items = entries.flatMap((entry) =>
    (entry.running || []).map(({ date, progress }) =>
      make(
        "li",
        {},
        swatch("running"),
        " ",
        make(
          "a",
          { href: addressOfDate(entry, numberOf(date)) },
          isolated(entry.title),
          ", ",
          periodName(entry.every, numberOf(date)),
        ),
        progress ? make("span", { class: "quiet" }, ` – ${progress}`) : null,
      ),
    ),
  );
  return items.length
    ? make(
        "section",
        { class: "running", "aria-labelledby": "running" },
        make("h2", { id: "running" }, "Running now"),
        make("ul", {}, items),
      )
    : null;
};
