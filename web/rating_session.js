/**
 * A session of rating: the groups of a run, what was given to their pictures, and undo.
 *
 * What is given to a group is {ratings: [5, null, 3]} (stars) or {ranks: [1, null, 2]} (1 is the best), by
 * the numbers of its pictures. Each change is saved on the server at once, into the run.
 */

import * as routes from "./routes.js";
import { t } from "./words.js";

const PAGE = 200;
const BEST = 5;
const WORST = 1;
const MIDDLE = 3;

export class RatingSession {
  /** @param {() => void} onProblem told when a change could not be saved, or can be again */
  constructor(run, onProblem = () => {}) {
    this.run = run;
    this.onProblem = onProblem;
    this.groups = [];
    this.given = {};
    this.past = [];
    this.saving = Promise.resolve();
    this.problem = null;
  }

  /** Read groups and ratings; groups that came meanwhile are added behind the others. */
  async load() {
    const mine = (this.mine = new Map()); // what is given while the answers are on their way
    const known = new Map(this.groups.map((group) => [group.group, group]));
    await this.saving;
    const saved = await routes.readRatings(this.run);
    for (let offset = 0, total = 1; offset < total; offset += PAGE) {
      const found = await routes.readGroups(this.run, { offset, limit: PAGE, order: "arrival" });
      total = found.total;
      for (const group of found.groups) {
        group.images.sort((a, b) => a.image - b.image);
        known.set(group.group, group);
      }
    }
    if (mine !== this.mine) return; // a later call knows more
    this.given = { ...saved.ratings, ...Object.fromEntries(mine) };
    this.groups = [...known.values()].filter((group) => group.images.length > 1);
  }

  /** Numbers by picture, in the order of the group's pictures, and what they are. */
  of(group) {
    const given = this.given[group.group] ?? {};
    const ranked = "ranks" in given;
    const numbers = (ranked ? given.ranks : given.ratings) ?? [];
    return { ranked, numbers: group.images.map(({ image }) => numbers[image] ?? null) };
  }

  /** Stars by picture; null where there are none, or ranks. */
  stars(group) {
    const { ranked, numbers } = this.of(group);
    return ranked ? numbers.map(() => null) : numbers;
  }

  /** Places of the pictures, the best first; by rank, else by stars, else as they are. */
  order(group) {
    const { ranked, numbers } = this.of(group);
    const worth = numbers.map((number) => (ranked ? -(number ?? 1e9) : (number ?? 0)));
    const places = group.images.map((_, place) => place);
    return places.sort((a, b) => worth[b] - worth[a] || a - b);
  }

  /** The picture picked as best and the one picked as worst, or null. */
  ends(group) {
    const stars = this.stars(group);
    const only = (star) => {
      const place = stars.indexOf(star);
      return place >= 0 && place === stars.lastIndexOf(star) ? place : null;
    };
    return { best: only(BEST), worst: only(WORST) };
  }

  /** Every picture has its rating. */
  isDone(group) {
    return this.of(group).numbers.every((number) => number != null);
  }

  /** Two pictures are rated differently: the group teaches something. */
  counts(group) {
    return new Set(this.of(group).numbers.filter((number) => number != null)).size > 1;
  }

  rate(place, picture, star) {
    const stars = this.stars(this.groups[place]);
    stars[picture] = star;
    this.#give(place, picture, { ratings: stars });
  }

  /** Pick the best or the worst; with both, all others count as in between. */
  pick(place, picture, end) {
    const group = this.groups[place];
    const ends = this.ends(group);
    const other = end === "best" ? "worst" : "best";
    if (ends[other] === picture) ends[other] = null;
    ends[end] = ends[end] === picture ? null : picture;
    const whole = ends.best != null && ends.worst != null;
    const ratings = group.images.map((_, i) =>
      i === ends.best ? BEST : i === ends.worst ? WORST : whole ? MIDDLE : null,
    );
    this.#give(place, picture, { ratings });
  }

  /** Rank all pictures in this order of their places. */
  rank(place, picture, order) {
    const ranks = [];
    order.forEach((one, i) => (ranks[one] = i + 1));
    this.#give(place, picture, { ranks });
  }

  /** Take back the last change; where it was, or null. */
  undo() {
    const last = this.past.pop();
    if (last) this.#save(last.group, last.before);
    return last ?? null;
  }

  #give(place, picture, given) {
    const { group, images } = this.groups[place];
    this.past.push({ place, picture, group, before: this.given[group] ?? { ratings: [] } });
    const [[kind, numbers]] = Object.entries(given);
    const byNumber = [];
    images.forEach(({ image }, i) => (byNumber[image] = numbers[i]));
    this.#save(group, { [kind]: Array.from(byNumber, (number) => number ?? null) });
  }

  #save(group, given) {
    this.given = { ...this.given, [group]: given };
    this.mine?.set(group, given);
    this.saving = this.saving
      .then(() => routes.writeRatings(this.run, group, given))
      .then(
        () => (this.problem = null),
        (error) => (this.problem = t("not saved: {reason}", { reason: error.message })),
      )
      .then(() => this.onProblem());
  }
}
