// Addresses within the page: #workflow, #workflow:label, #workflow:label/2016-01-10 and #?search=…&label=….

// Return groups of the entries, in order, by what `keyOf` returns for each. They are found once.
const grouped = (keyOf) => {
  let of, groups;
  return () => {
    if (of === catalogue.entries) return groups;
    [of, groups] = [catalogue.entries, new Map()];
    for (const entry of of) groups.set(keyOf(entry), [...(groups.get(keyOf(entry)) || []), entry]);
    return groups;
  };
};
const byName = grouped(entryName);
const byWorkflow = grouped((entry) => entry.workflow);
const entriesOf = (workflow) => byWorkflow().get(workflow) || [];

// Names can be ambiguous: of entries without labels, and of removed ones. Those have the name of their folder.
const addressOf = (entry) => {
  const [first] = byName().get(entryName(entry));
  const isClear = entry === first && (entry.label || entriesOf(entry.workflow).length === 1);
  if (!isClear) return `#~${encodeURIComponent(entry.slug)}`;
  return `#${encodeURIComponent(entry.workflow)}${entry.label ? `:${encodeURIComponent(entry.label)}` : ""}`;
};
const addressOfDate = (entry, number) => `${addressOf(entry)}/${isoDate(number)}`;
const addressOfWorkflow = (workflow) => `#${encodeURIComponent(workflow)}`;

const addressOfList = ({ workflow, label, search }) => {
  const filters = new URLSearchParams(Object.entries({ label, search }).filter(([, value]) => value)).toString();
  return `#${workflow ? encodeURIComponent(workflow) : ""}${filters ? `?${filters}` : ""}`;
};

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

const entryAt = (path, hasDate) => {
  if (path.startsWith("~")) return catalogue.entries.find((entry) => entry.slug === decoded(path.slice(1)));
  const named = byName().get(path.split(":").map(decoded).join(":")) || byName().get(decoded(path));
  if (!named) return entriesOf(decoded(path)).length === 1 ? entriesOf(decoded(path))[0] : undefined;
  const [entry] = named;
  return entry.label || hasDate || entriesOf(entry.workflow).length === 1 ? entry : undefined;
};

// Return what an address shows: { entry, date } or { workflow, label, search }; isUnknown if there is no such thing.
const routeOf = (hash) => {
  const [, path, date, filters] = /^#?(.*?)(?:\/(\d{4}-\d\d-\d\d))?(?:\?(.*))?$/s.exec(hash);
  const entry = path ? entryAt(path, Boolean(date)) : undefined;
  if (entry) return { entry, date: date && !Number.isNaN(numberOf(date)) ? numberOf(date) : null };
  const given = new URLSearchParams(filters || "");
  const workflow = decoded(path);
  const isKnown = !workflow || entriesOf(workflow).length > 0;
  const found = { label: given.get("label") || "", search: given.get("search") || "" };
  return { workflow: isKnown ? workflow : "", ...found, isUnknown: !isKnown };
};
