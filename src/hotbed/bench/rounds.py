"""Lets the entrants of a row take turns until the row's time is spent.

Law: in each round every entrant has one batch, and the order changes from round to round, so
that nobody always runs after the same neighbour. Nobody is timed before all have given the
same answer to the row's work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hotbed.bench import guest, machine, template
from hotbed.bench.guest import Guest, GuestError
from hotbed.bench.peers import EXTRA
from hotbed.bench.row import GAP_S, Entrant, Kind, Row
from hotbed.bench.verdict import Outcome, Samples, disagreement

# After a batch at full speed children still die and standby ones are made; the next entrant
# must not pay for them. Teardown and refill of two pandas children take some 30 ms.
SETTLE_S = 0.1


Tell = Callable[[str], None]  # hears of what goes wrong, while it does


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things are measured, and in what portions.

    total_s: for all rows. row_s: at most for a row of share 1, the start of its processes
    included. load_s: of one entrant's turn in a saturated row.
    """

    total_s: float
    row_s: float
    least_rounds: int
    load_s: float

    def budget_s(self, share: float, shares_left: float, elapsed_s: float) -> float:
        """Seconds for the next row: its part of what is left, so that slow rows shorten later ones."""
        left_s = max(0.0, self.total_s - elapsed_s)
        return min(self.row_s * share, left_s * share / shares_left)


QUICK = Pace(total_s=145.0, row_s=8.0, least_rounds=4, load_s=0.4)
FULL = Pace(total_s=660.0, row_s=37.0, least_rounds=5, load_s=0.8)


def turns(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: rotated by one each time, and every other round reversed."""
    start = number // 2 % len(names)
    order = [*names[start:], *names[:start]]
    return order[::-1] if number % 2 else order


def absence(entrant: Entrant) -> str:
    """What must be installed before this entrant can take part; "" if nothing."""
    missing = [name for name in entrant.needs if importlib.util.find_spec(name) is None]
    return f"not installed: {EXTRA}" if missing else ""


def measure(row: Row, pace: Pace, budget_s: float, tell: Tell) -> Outcome:
    """Open a row's entrants, let them take turns for the rest of `budget_s`, close them.

    An entrant that is not installed or fails is left out with its reason. `tell` hears what a
    failing one wrote to stderr.
    """
    started, before = time.monotonic(), machine.processor_time()
    absent: dict[str, str] = {}
    open_: dict[str, Party] = {}
    with contextlib.ExitStack() as stack:
        parties = []
        for entrant in row.entrants:
            if reason := absence(entrant):
                absent[entrant.name] = reason
            else:
                parties.append(stack.enter_context(contextlib.closing(Party(entrant))))
        answers = {}
        for party in parties:
            name = party.entrant.name
            try:
                answer = party.wait_ready()
            except GuestError as error:
                absent[name] = f"failed: {error}"
                tell(f"{name}: {error}\n{party.errors()}")
                continue
            open_[name] = party
            if party.entrant.works and row.kind is not Kind.MEMORY:
                answers[name] = answer
        if problem := disagreement(answers):
            # Then nothing can be compared; the floors that did answer say nothing alone.
            tell(f"{row.id}: {problem}")
            absent |= dict.fromkeys(open_, f"the entrants did not do the same work: {problem}")
            open_ = {}
        samples, rounds = _take_turns(row, pace, started + budget_s, open_, absent, tell)
    stolen = machine.processor_time().stolen_since(before)
    return Outcome(row, samples, absent, rounds, time.monotonic() - started, stolen)


def _take_turns(
    row: Row,
    pace: Pace,
    until: float,
    parties: dict[str, Party],
    absent: dict[str, str],
    tell: Tell,
) -> tuple[dict[str, Samples], int]:
    samples = {name: Samples() for name in parties}
    number = 0
    while samples and (number < pace.least_rounds or time.monotonic() < until):
        for name in turns(list(parties), number):
            if name not in samples:
                continue
            try:
                parties[name].turn(row.kind, pace, samples[name])
            except GuestError as error:
                absent[name] = f"failed: {error}"
                tell(f"{name}: {error}\n{parties[name].errors()}")
                del samples[name]  # rounds pair: half a series would shift all that follow
        number += 1
    return samples, number


class Party:
    """The processes of one entrant; more than one where it runs a copy on every core."""

    def __init__(self, entrant: Entrant) -> None:
        self.entrant = entrant
        self._guests: list[Guest] = []
        try:
            for _ in range(entrant.copies):
                if entrant.raw:
                    argv, env = template.raw_command(**entrant.options)
                    self._guests.append(Guest(argv, env))
                else:
                    self._guests.append(Guest(guest.command(entrant)))
        except BaseException:
            self.close()
            raise

    def wait_ready(self) -> Any:
        """The answer of the entrant, once all its processes are ready."""
        answers = [each.wait_ready() for each in self._guests]
        return answers[0]

    def errors(self) -> str:
        """What its processes wrote to stderr."""
        return "".join(each.errors() for each in self._guests)

    def turn(self, kind: Kind, pace: Pace, samples: Samples) -> None:
        """One batch of this entrant, added to its samples as one round.

        Raises:
            GuestError: If a process failed or was silent.
        """
        if kind is Kind.MEMORY:
            [answer] = self._order({"op": "weigh"})
            each = answer["processes"]
            samples.rounds.append([process["private"] + process["tables"] for process in each])
            samples.shared += [process["pss"] for process in each]
            time.sleep(SETTLE_S)
        elif kind is Kind.SATURATED:
            answers = self._order({"op": "load", "wall_s": pace.load_s, "callers": self.entrant.callers})
            samples.rounds.append([sum(len(answer["seconds"]) / answer["wall_s"] for answer in answers)])
            samples.seconds += [second for answer in answers for second in answer["seconds"]]
            time.sleep(SETTLE_S)
        else:
            rest_s = GAP_S if kind is Kind.PACED else 0.0
            [answer] = self._order({"op": "calls", "count": self.entrant.batch, "rest_s": rest_s})
            samples.rounds.append(answer["seconds"])
            samples.seconds += answer["seconds"]
            if not rest_s:
                time.sleep(GAP_S)

    def _order(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        for each in self._guests:
            each.send(order)
        return [each.receive() for each in self._guests]

    def close(self) -> None:
        """End its processes."""
        for each in self._guests:
            each.close()
