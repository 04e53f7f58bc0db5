/**
 * A session of rating: the groups of a run, their ratings, the image that is rated now, and undo.
 *
 * The rating of a group is {ratings: [5, null, 3]} (stars) or {ranks: [1, null, 2]} (1 is the best), by
 * image number; null is not rated. Each change is saved on the server at once, in the run.
 */

import { t } from "./i18n.js";
import * as routes from "./routes.js";

const PAGE = 200;
const BEST = 5;
const WORST = 1;
const MIDDLE = 3;

export class RatingSession {
  /**
   * @param {string} run
   * @param {() => void} onChange called when a rating changed
   * @param {() => void} onSaved called when the server has it, or has not: see `problem`
   */
  constructor(run, onChange, onSaved) {
    Object.assign(this, { run, onChange, onSaved });
    this.groups = [];
    this.ratings = {}; // by group id
    this.groupIndex = 0;
    this.imageIndex = 0; // of the current image in the current group
    this.history = []; // changes that can be undone
    this.saving = Promise.resolve();
    this.problem = null; // why the last change could not be saved
  }

  /** Read groups and ratings again; new groups are appended. */
  async load() {
    const edits = (this.edits = new Map()); // ratings that change while the answers are on their way
    const groups = new Map(this.groups.map((group) => [group.group, group]));
    await this.saving;
    const saved = await routes.readRatings(this.run);
    for (let offset = 0, total = 1; offset < total; offset += PAGE) {
      const page = await routes.readGroups(this.run, { offset, limit: PAGE, order: "arrival" });
      total = page.total;
      for (const group of page.groups) {
        group.images.sort((a, b) => a.image - b.image);
        groups.set(group.group, group);
      }
    }
    if (edits !== this.edits) return; // a later call has newer answers
    this.ratings = { ...saved.ratings, ...Object.fromEntries(edits) };
    this.groups = [...groups.values()].filter((group) => group.images.length > 1);
  }

  /** Return whether a group is ranked, and the stars or ranks of its images by index. */
  rating(group) {
    const rating = this.ratings[group.group] ?? {};
    const isRanked = "ranks" in rating;
    const numbers = (isRanked ? rating.ranks : rating.ratings) ?? [];
    return { isRanked, values: group.images.map(({ image }) => numbers[image] ?? null) };
  }

  /** Return the stars of a group's images by index; all null if it is ranked. */
  stars(group) {
    const { isRanked, values } = this.rating(group);
    return isRanked ? values.map(() => null) : values;
  }

  /** Return the indices of a group's images, best first: by rank, else by stars, else as generated. */
  order(group) {
    const { isRanked, values } = this.rating(group);
    const quality = values.map((value) => (isRanked ? -(value ?? Infinity) : (value ?? 0)));
    const indices = group.images.map((_, index) => index);
    return indices.sort((a, b) => (quality[a] === quality[b] ? a - b : quality[b] - quality[a]));
  }

  /** Return the indices of the images that were picked as best and as worst, or null. */
  extremes(group) {
    const stars = this.stars(group);
    const single = (star) => {
      const index = stars.indexOf(star);
      return index >= 0 && index === stars.lastIndexOf(star) ? index : null;
    };
    return { best: single(BEST), worst: single(WORST) };
  }

  /** Return whether every image of a group is rated. */
  isComplete(group) {
    return this.rating(group).values.every((value) => value != null);
  }

  /** Return how many groups teach something, and how many do not because all ratings are equal. */
  counts() {
    let rated = 0;
    let equal = 0;
    for (const group of this.groups) {
      const values = this.rating(group).values.filter((value) => value != null);
      if (new Set(values).size > 1) rated++;
      else if (values.length > 1) equal++;
    }
    return { rated, equal };
  }

  /** The current group; undefined if there is none. */
  get group() {
    return this.groups[this.groupIndex];
  }

  goTo(groupIndex, imageIndex = 0) {
    this.groupIndex = groupIndex;
    this.imageIndex = imageIndex;
  }

  /** Go to the next group (1) or the previous one (-1), around the ends. */
  stepGroup(distance) {
    const { length } = this.groups;
    if (length) this.goTo((this.groupIndex + distance + length) % length);
  }

  /** Go to the current group if an image of it is not rated, else to the next such group. */
  goToUnrated() {
    const { groups } = this;
    const indices = groups.map((_, offset) => (this.groupIndex + offset) % groups.length);
    const unrated = indices.find((index) => !this.isComplete(groups[index]));
    if (unrated != null) this.goTo(unrated);
  }

  /** Rate an image of the current group with 1 to 5 stars; null takes the rating back. */
  rate(imageIndex, star) {
    const stars = this.stars(this.group);
    stars[imageIndex] = star;
    this.#change(imageIndex, "ratings", stars);
  }

  /** Pick the best or the worst image; once both are picked, all others count as in between. */
  pick(imageIndex, extreme) {
    const picked = this.extremes(this.group);
    const other = extreme === "best" ? "worst" : "best";
    if (picked[other] === imageIndex) picked[other] = null;
    picked[extreme] = picked[extreme] === imageIndex ? null : imageIndex;
    const rest = picked.best != null && picked.worst != null ? MIDDLE : null;
    const stars = this.group.images.map((_, index) =>
      index === picked.best ? BEST : index === picked.worst ? WORST : rest,
    );
    this.#change(imageIndex, "ratings", stars);
  }

  /** Move an image of the current group to another position in the order, which ranks all of them. */
  move(imageIndex, position) {
    const order = this.order(this.group);
    if (position < 0 || position >= order.length || !order.includes(imageIndex)) return;
    order.splice(order.indexOf(imageIndex), 1);
    order.splice(position, 0, imageIndex);
    this.#rank(imageIndex, order);
  }

  /** Rank the images of the current group in the order in which they stand. */
  keepOrder() {
    this.#rank(this.imageIndex, this.order(this.group));
  }

  /** Undo the last change, and go to where it was. */
  undo() {
    const change = this.history.pop();
    if (!change) return;
    this.#save(change.group, change.previous);
    this.goTo(change.groupIndex, change.imageIndex);
  }

  #rank(imageIndex, order) {
    const ranks = [];
    order.forEach((index, position) => (ranks[index] = position + 1));
    this.#change(imageIndex, "ranks", ranks);
  }

  #change(imageIndex, kind, values) {
    const { groupIndex } = this;
    const { group, images } = this.group;
    const previous = this.ratings[group] ?? { ratings: [] };
    this.history.push({ groupIndex, imageIndex, group, previous });
    const numbers = [];
    images.forEach(({ image }, index) => (numbers[image] = values[index]));
    this.#save(group, { [kind]: Array.from(numbers, (number) => number ?? null) });
    this.goTo(groupIndex, imageIndex);
  }

  #save(group, rating) {
    this.ratings = { ...this.ratings, [group]: rating };
    this.edits?.set(group, rating);
    this.onChange();
    this.saving = this.saving
      .then(() => routes.writeRating(this.run, group, rating))
      .then(
        () => (this.problem = null),
        (error) => (this.problem = t("not saved: {reason}", { reason: error.message })),
      )
      .then(() => this.onSaved());
  }
}
