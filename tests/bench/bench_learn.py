"""Does learning help? Tasks from clusters of memories, ratings with noise: hit@3 with learning, without, without spread.

    python3 -m tests.bench.bench_learn [N_SEEDS]

A cluster is a topic: its memories share core words, and differ in others. Each is right or wrong for the tasks of its
topic, which no word tells. A task asks for some words of a topic, three memories are shown, and each is rated in a
session of its own; with a chance of *noise* the rating is the opposite. hit@3 is how often a right one is among the
first three for tasks that were not rated. In the second world the right ones of a topic have words in common, which no
task asks for, as what was done in one way has: there, what was learnt of some holds for others.
"""
from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
from unittest import mock

from tests.support import rlm

N_CLUSTERS, N_MEMBERS, N_RIGHT, N_RATED, N_TASKS, SHOWN = 8, 12, 3, 30, 80, 3
ALIKE_WORDS = 6
NOISES = (0.0, 0.1, 0.2, 0.3)
SYLLABLES = [a + b for a in "bdfgklmnprtvz" for b in "aeiou"]


class World:
    """A store with clusters of memories, in a folder of its own."""

    def __init__(self, folder: str, seed: int, n_alike: int) -> None:
        self.rng, self.right, self.topics = random.Random(seed), {}, []
        with mock.patch.dict(os.environ, HOME=folder):
            self.places = rlm.Places()
        self.view = rlm.View(self.places).refresh()
        with rlm.Writer(self.view) as writer:
            for _ in range(N_CLUSTERS):
                core, more, ways = self.words(3), self.words(24), (self.words(n_alike), self.words(n_alike))
                self.topics.append((core, more))
                for n in range(N_MEMBERS):
                    text = [*core, *self.rng.sample(more, 10), *self.words(4), *ways[n < N_RIGHT]]
                    self.rng.shuffle(text)
                    made, _ = rlm.remember(writer, " ".join(text), category="fact", importance="medium", tags=[],
                                           at_s=rlm.now(), project="bench", identity="name:bench")
                    self.right[made] = n < N_RIGHT

    def words(self, n: int) -> list[str]:
        return ["".join(self.rng.choices(SYLLABLES, k=4)) for _ in range(n)]

    def task(self) -> str:
        core, more = self.rng.choice(self.topics)
        return " ".join([*core, *self.rng.sample(more, 2)])

    def shown(self, query: str) -> list[rlm.Doc]:
        view = self.view.refresh()
        return [hit.doc for hit in rlm.best_hits(rlm.Query(view, query), view.alive_mask(), SHOWN)]

    def rate(self, docs: list[rlm.Doc], noise: float, session: str) -> None:
        with rlm.Writer(self.view) as writer:
            for doc in docs:
                is_right = self.right[doc.id] != (self.rng.random() < noise)
                rlm.rate(writer, [doc], "helpful" if is_right else "not", "", session)

    def hit_at_3(self, tasks: list[str]) -> float:
        return 100 * statistics.mean(any(self.right[doc.id] for doc in self.shown(task)) for task in tasks)

    def wrong_first(self, tasks: list[str]) -> float:
        return 100 * statistics.mean(not self.right[self.shown(task)[0].id] for task in tasks)


def run(seed: int, noise: float, spreads: bool, n_alike: int) -> tuple[float, float, float, float]:
    """hit@3 before and after the rated tasks, and how often a wrong one comes first, before and after."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(rlm, "sync", lambda _: None):
        world = World(folder, seed, n_alike)
        tasks = [world.task() for _ in range(N_TASKS)]
        off, wrong_off = world.hit_at_3(tasks), world.wrong_first(tasks)
        for n in range(N_RATED):
            world.rate(world.shown(world.task()), noise, f"s{n}")
            if spreads:
                rlm.learn(world.view)
        return off, world.hit_at_3(tasks), wrong_off, world.wrong_first(tasks)


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{n_seeds} seeds, {N_CLUSTERS} topics of {N_MEMBERS} memories, {N_RIGHT} of them right; "
          f"{N_RATED} rated tasks, {N_TASKS} others asked")
    for n_alike in (0, ALIKE_WORDS):
        print(f"right ones have {n_alike} words in common\n"
              "noise   hit@3 off   rated only   with spread   wrong first: off   with spread")
        for noise in NOISES:
            alone = [run(seed, noise, False, n_alike) for seed in range(n_seeds)]
            both = [run(seed, noise, True, n_alike) for seed in range(n_seeds)]
            off, spread, wrong_off, wrong = map(statistics.mean, zip(*both))
            rated = statistics.mean(row[1] for row in alone)
            print(f"{noise:4.0%} {off:11.1f} {rated:12.1f} {spread:13.1f} {wrong_off:18.1f} {wrong:13.1f}", flush=True)



if __name__ == "__main__":
    main()
