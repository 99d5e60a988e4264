// Dates are numbers of days since 1970-01-01, all in UTC. A period has the date of its last day.

const DAY = 86400000;
const MONTHS = "January February March April May June July August September October November December".split(" ");
const SHORT_MONTHS = MONTHS.map((name) => name.slice(0, 3));
const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS_IN = { month: 1, quarter: 3, year: 12 };

const numberOf = (isoDate) => Date.parse(`${isoDate}T00:00:00Z`) / DAY;
const isoDate = (number) => new Date(number * DAY).toISOString().slice(0, 10);
const yearOf = (number) => new Date(number * DAY).getUTCFullYear();
const monthOf = (number) => new Date(number * DAY).getUTCMonth();
const dayOfMonth = (number) => new Date(number * DAY).getUTCDate();
const dateOf = (year, month, day) => Date.UTC(year, month, day) / DAY; // day 0: the last one of the month before
const weekday = (number) => (((number + 3) % 7) + 7) % 7; // 0 is Monday

const dayName = (number) => `${dayOfMonth(number)} ${MONTHS[monthOf(number)]} ${yearOf(number)}`;

// Return the name of a range of days without what both ends have in common: 4–10 January 2016.
const rangeName = (first, last) => {
  if (yearOf(first) !== yearOf(last)) return `${dayName(first)} – ${dayName(last)}`;
  if (monthOf(first) !== monthOf(last)) return `${dayOfMonth(first)} ${MONTHS[monthOf(first)]} – ${dayName(last)}`;
  return `${dayOfMonth(first)}–${dayName(last)}`;
};

const isLastDay = (every, number) => {
  const months = MONTHS_IN[every];
  return !months || (dayOfMonth(number + 1) === 1 && (monthOf(number) + 1) % months === 0);
};

// Return the period that ends on a day, for readers. A date on which no period ends stands alone.
const periodName = (every, number) => {
  if (!isLastDay(every, number)) return dayName(number);
  if (every === "week") return `Week of ${rangeName(number - 6, number)}`;
  if (every === "month") return `${MONTHS[monthOf(number)]} ${yearOf(number)}`;
  if (every === "quarter") return `${MONTHS[monthOf(number) - 2]}–${MONTHS[monthOf(number)]} ${yearOf(number)}`;
  if (every === "year") return `Year ${yearOf(number)}`;
  return `${WEEKDAYS[weekday(number)]}, ${dayName(number)}`;
};

// Return the name of a period in two parts, of which the first is what matters most.
const periodInShort = (every, number) => {
  const day = (date) => `${dayOfMonth(date)} ${SHORT_MONTHS[monthOf(date)]}`;
  const week = monthOf(number - 6) === monthOf(number) ? dayOfMonth(number - 6) : `${day(number - 6)} `;
  if (every === "year") return [String(yearOf(number)), ""];
  if (every === "quarter") return [`Q${Math.floor(monthOf(number) / 3) + 1}`, String(yearOf(number))];
  if (every === "month") return [MONTHS[monthOf(number)], String(yearOf(number))];
  return [
    every === "week" ? `${week}–${typeof week === "string" ? " " : ""}${day(number)}` : day(number),
    String(yearOf(number)),
  ];
};

// Return the last day of the period in which a day lies. `known` is the last day of any of the weeks.
const endOfPeriod = (every, number, known) =>
  [...periodEnds(every, yearOf(number), known), ...periodEnds(every, yearOf(number) + 1, known)].find(
    (end) => end >= number,
  );

// Return the last days of all periods of a year. `known` is the last day of any of the weeks.
const periodEnds = (every, year, known) => {
  const first = dateOf(year, 0, 1),
    end = dateOf(year + 1, 0, 1);
  const months = MONTHS_IN[every];
  if (months) return Array.from({ length: 12 / months }, (_, index) => dateOf(year, (index + 1) * months, 0));
  const step = every === "week" ? 7 : 1;
  const start = first + ((((known - first) % step) + step) % step);
  return Array.from({ length: Math.ceil((end - start) / step) }, (_, index) => start + index * step);
};
