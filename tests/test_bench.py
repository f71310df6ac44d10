"""The benchmark tells the truth about its samples; how quick anything is, no test says."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.bench import figures, guest, machine, peers, verdict
from hotbed.bench.catalogue import ROWS, choose
from hotbed.bench.command import bench, command_line
from hotbed.bench.machine import Machine, ProcessorTime
from hotbed.bench.report import Run, markdown, results
from hotbed.bench.rounds import Pace, measure, turns
from hotbed.bench.row import Bar, Comparison, Entrant, Kind, Row, Sense, at_least, at_most
from hotbed.bench.scenario import SCENARIOS, records
from hotbed.bench.tables import number, tables
from hotbed.bench.verdict import Outcome, Samples

TINY = Pace(total_s=0.0, row_s=0.0, least_rounds=2, load_s=0.02)
HERE = Machine(
    cpu="a processor",
    cores=2,
    memory_bytes=2**34,
    kernel="Linux 6",
    python="CPython 3.11.7",
    huge_pages="madvise",
    virtual=True,
    load=0.5,
    packages={"hotbed": "0.1.0", "loky": "not installed"},
)
PING = Entrant("ping", "hotbed.bench.floors:ping", works=False, batch=3)
ADD = Entrant("plain call", "hotbed.bench.floors:function", {"name": "add", "args": [1, 2]}, batch=3)


# ── statistics ──


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert figures.quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert figures.quantile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert figures.quantile([7.0], 0.99) == 7.0


@given(st.lists(st.floats(1e-6, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_never_outside_the_sample(values: list[float], q: float) -> None:
    assert min(values) <= figures.quantile(values, q) * (1 + 1e-12)
    assert figures.quantile(values, q) <= max(values) * (1 + 1e-12)


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_quantile_of_nothing_is_refused(values: list[float], q: float) -> None:
    with pytest.raises(ValueError, match=r"at least one value|must lie in"):
        figures.quantile(values, q)


@pytest.mark.parametrize(("count", "p95", "p99"), [(19, False, False), (20, True, False), (100, True, True)])
def test_a_summary_states_no_quantile_that_its_samples_cannot_support(
    count: int, p95: bool, p99: bool
) -> None:
    summary = figures.summarise([1.0] * count)
    assert (summary.count, summary.p95 is not None, summary.p99 is not None) == (count, p95, p99)


def test_a_slow_second_of_the_machine_does_not_bend_the_ratio_by_round() -> None:
    baseline = [[1.0, 1.0], [10.0, 10.0], [1.0, 1.0]]
    contender = [[2.0, 2.0], [20.0, 20.0], [2.0, 2.0]]
    assert figures.ratio(contender, baseline).by_round == 2.0
    assert figures.ratio(contender, [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]).by_round == 2.0


def test_a_ratio_of_unpaired_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds must pair: 1 against 2"):
        figures.ratio([[1.0]], [[1.0], [1.0]])


def test_a_ratio_at_p95_is_that_of_all_samples() -> None:
    found = figures.ratio([[1.0] * 9 + [8.0]] * 10, [[1.0] * 9 + [2.0]] * 10, 0.95)
    assert found.by_round == found.overall == 4.0


# ── bars ──


def outcome(
    kind: Kind,
    comparison: Comparison,
    samples: Mapping[str, Sequence[float]],
    absent: Mapping[str, str] | None = None,
) -> Outcome:
    absent = absent or {}
    row = Row("a-row", "a sentence", kind, tuple(map(Entrant, [*samples, *absent])), (comparison,), "a note")
    measured = {
        name: Samples(
            [[value] for value in values],
            [] if kind is Kind.MEMORY else list(values),
            [2 * value for value in values] if kind is Kind.MEMORY else [],
        )
        for name, values in samples.items()
    }
    return Outcome(row, measured, absent, 1, 1.0, 0.25)


@pytest.mark.parametrize(
    ("kind", "bar", "ours", "theirs", "ratio", "met"),
    [
        (Kind.PACED, at_most(1.6), 0.003, 0.002, 1.5, True),
        (Kind.PACED, at_most(1.4), 0.003, 0.002, 1.5, False),
        (Kind.BACK_TO_BACK, at_least(2.5), 0.001, 0.003, 3.0, True),
        (Kind.BACK_TO_BACK, at_least(3.5), 0.001, 0.003, 3.0, False),
        (Kind.SATURATED, at_least(0.6), 300.0, 500.0, 0.6, True),
        (Kind.SATURATED, at_least(3.0), 300.0, 500.0, 0.6, False),
        (Kind.MEMORY, at_least(7.0), 1e6, 8e6, 8.0, True),
    ],
)
def test_a_bar_is_held_in_the_sense_it_states(
    kind: Kind, bar: Bar, ours: float, theirs: float, ratio: float, met: bool
) -> None:
    [found] = outcome(kind, Comparison("a", "b", bar), {"a": [ours], "b": [theirs]}).verdicts
    assert found.ratio is not None
    assert found.ratio.by_round == pytest.approx(ratio)
    assert found.met is met


def test_without_a_baseline_the_figure_itself_is_held_to_the_bar() -> None:
    [found] = outcome(Kind.MEMORY, Comparison("a", None, at_most(1.5e6)), {"a": [1e6, 2e6, 1e6]}).verdicts
    assert (found.value, found.met, found.sense) == (1e6, True, Sense.AT_MOST)


def test_a_bar_at_p95_is_not_judged_on_samples_too_few_to_have_one() -> None:
    comparison = Comparison("a", "b", at_most(2.0), q=0.95)
    [few] = outcome(Kind.PACED, comparison, {"a": [1.0] * 19, "b": [1.0] * 19}).verdicts
    [enough] = outcome(Kind.PACED, comparison, {"a": [1.0] * 20, "b": [1.0] * 20}).verdicts
    assert (few.met, few.reason) == (None, "too few samples: 19 of 20")
    assert enough.met is True


def test_a_missing_peer_is_named_and_its_bar_is_neither_met_nor_missed() -> None:
    reason = f"not installed: {peers.EXTRA}"
    measured = outcome(Kind.PACED, Comparison("a", "loky", at_least(8.0)), {"a": [1.0]}, {"loky": reason})
    [found] = measured.verdicts
    assert found.met is None
    assert found.reason == f"loky: {reason}"
    assert reason in markdown(Run("hotbed bench", "a day", HERE, [measured], 1.0))


def test_a_row_compares_only_its_own_entrants() -> None:
    with pytest.raises(ValueError, match="compares 'c', which is none of"):
        Row("a-row", "", Kind.PACED, (Entrant("a"), Entrant("b")), (Comparison("a", "c"),))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.1 + 0.2, 0.3, True),
        ([1, {"a": 2.0}], [1, {"a": 2.0 + 1e-12}], True),
        (3, 4, False),
        ([1], [1, 2], False),
        (None, 3, False),
    ],
)
def test_entrants_did_the_same_work_if_their_answers_are_equal(
    one: object, other: object, equal: bool
) -> None:
    assert (verdict.disagreement({"a": one, "b": other}) == "") is equal


# ── turns and time ──


@given(st.integers(1, 8), st.integers(0, 40))
def test_every_entrant_has_one_turn_a_round(count: int, number: int) -> None:
    names = [str(index) for index in range(count)]
    assert sorted(turns(names, number)) == names


def test_nobody_always_follows_the_same_neighbour() -> None:
    names = ["a", "b", "c", "d"]
    before_a = {(order := turns(names, number))[order.index("a") - 1] for number in range(8)}
    assert len(before_a) > 1


def test_rows_that_ran_long_shorten_the_later_ones() -> None:
    pace = Pace(total_s=100.0, row_s=30.0, least_rounds=1, load_s=1.0)
    assert pace.budget_s(1.0, 10.0, 0.0) == 10.0
    assert pace.budget_s(1.0, 2.0, 90.0) == 5.0
    assert pace.budget_s(1.0, 2.0, 0.0) == 30.0
    assert pace.budget_s(1.0, 2.0, 200.0) == 0.0


def test_stolen_time_is_a_part_of_the_time_that_passed() -> None:
    assert ProcessorTime(300, 40).stolen_since(ProcessorTime(100, 10)) == 0.15
    assert ProcessorTime(100, 10).stolen_since(ProcessorTime(100, 10)) == 0.0


# ── the catalogue ──


def test_every_row_has_a_name_of_its_own_and_is_found_by_it() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row in choose(row.id)


def test_rows_are_chosen_by_name_and_by_prefix() -> None:
    assert [row.id for row in choose("worker-call, memory-*")] == [
        "worker-call",
        "memory-trivial",
        "memory-groupby",
    ]
    assert choose(None) == ROWS


@pytest.mark.parametrize("names", ["no-such-row", "nothing-*", " , "])
def test_an_unknown_row_is_refused_with_the_way_to_find_the_right_one(names: str) -> None:
    with pytest.raises(ValueError, match="--list"):
        choose(names)


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_the_json_scenario_is_as_long_as_its_name_says(size: int) -> None:
    assert abs(len(json.dumps(records(size))) - size) < 0.05 * size


@pytest.mark.parametrize("name", ["sum", "json-10k", "file"])
def test_a_scenario_leaves_a_result(name: str) -> None:
    space = {"data": SCENARIOS[name].data}
    exec(SCENARIOS[name].code, space)
    assert space["result"]


# ── what is printed ──


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (99.96, "100"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.012")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def full_run() -> Run:
    return Run(
        "hotbed bench --quick",
        "2026-01-01T00:00:00+00:00",
        HERE,
        [
            outcome(Kind.MEMORY, Comparison("a", None, at_most(1.5e6)), {"a": [2e6]}),
            outcome(Kind.SATURATED, Comparison("a", "b", at_least(0.6)), {"a": [330.0], "b": [500.0]}),
            outcome(Kind.PACED, Comparison("a", "b", at_most(1.6)), {"a": [0.003], "b": [0.002]}),
        ],
        3.0,
    )


def test_the_report_begins_with_the_command_the_day_and_the_machine() -> None:
    text = markdown(full_run())
    order = [
        "# hotbed benchmark",
        "hotbed bench --quick",
        "2026-01-01",
        "2 bars met, 1 not met",
        "a processor",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_paced_and_saturated_tables_come_first() -> None:
    assert [table.title for table in tables(full_run().outcomes)] == [
        "Fresh executions, paced",
        "Saturated",
        "Memory",
    ]


def test_a_line_of_a_table_holds_figures_baseline_ratio_bar_and_verdict() -> None:
    paced, saturated, memory = (table.lines[0] for table in tables(full_run().outcomes))
    assert paced == (
        "a-row",
        "a",
        "3.00 / – / –",
        "b",
        "2.00",
        "1.50x its time",
        "1.50-1.50",
        "1.50",
        "at most 1.6x",
        "yes",
    )
    assert saturated[5:] == ("500", "0.660x of its rate", "0.660-0.660", "0.660", "at least 0.6x", "yes")
    assert memory[2:4] == ("2.00", "4.00")
    assert memory[-2:] == ("at most 1.5 MB", "NO")


def test_every_table_has_as_many_cells_as_heads() -> None:
    for table in tables(full_run().outcomes):
        assert {len(line) for line in table.lines} == {len(table.heads)}


def test_the_results_are_one_json_document_with_every_round() -> None:
    document = json.loads(results(full_run()))
    assert document["bars"] == {"met": 2, "not_met": 1, "not_measured": 0}
    [memory, saturated, paced] = document["rows"]
    assert memory["entrants"][0]["round_medians"] == [2e6]
    assert saturated["entrants"][1]["per_second"] == 500.0
    assert paced["entrants"][0]["p50_s"] == 0.003
    assert paced["entrants"][0]["p95_s"] is None
    assert paced["comparisons"][0]["ratio"]["by_round"] == pytest.approx(1.5)


def test_a_published_failure_holds_no_path() -> None:
    message = "ImportError: cannot open '/home/someone/lib/x.so'\nmore\n/usr/lib/y.py:3: no"
    assert guest.without_paths(message) == "ImportError: cannot open '<path>' ... <path>:3: no"


def test_the_command_line_is_written_without_the_place_of_its_output() -> None:
    assert command_line(True, "worker-call") == "hotbed bench --quick --rows worker-call"


@pytest.mark.parametrize(
    ("text", "setting"),
    [("always [madvise] never\n", "madvise"), ("", "unknown"), ("[always] never", "always")],
)
def test_the_setting_of_huge_pages_is_the_one_in_brackets(text: str, setting: str) -> None:
    assert machine.chosen(text) == setting


# ── real processes ──


def test_a_small_row_runs_for_real_and_leaves_sane_samples() -> None:
    row = Row("tiny", "a sentence", Kind.BACK_TO_BACK, (ADD, PING), (Comparison("plain call", "ping"),))
    complaints = list[str]()
    found = measure(row, TINY, 0.0, complaints.append)
    assert complaints == []
    assert found.absent == {}
    assert found.rounds == 2
    for samples in found.samples.values():
        assert [len(each) for each in samples.rounds] == [3, 3]
        assert all(second > 0 for second in samples.seconds)
    [comparison] = found.verdicts
    assert comparison.ratio is not None
    assert comparison.met is None


def test_a_saturated_row_counts_executions_a_second() -> None:
    row = Row("tiny", "pings", Kind.SATURATED, (ADD,), ())
    [samples] = measure(row, TINY, 0.0, print).samples.values()
    [first, _second] = samples.rounds
    assert first[0] > 0
    assert len(samples.seconds) > 2


def test_a_raw_template_forks_and_reaps() -> None:
    raw = Entrant("raw", options={"preload": []}, raw=True, works=False, batch=2)
    complaints = list[str]()
    found = measure(Row("tiny", "forks", Kind.BACK_TO_BACK, (raw,), ()), TINY, 0.0, complaints.append)
    assert complaints == []
    assert len(found.samples["raw"].seconds) == 4


def test_entrants_that_answer_differently_are_not_compared() -> None:
    other = Entrant("other", "hotbed.bench.floors:function", {"name": "add", "args": [1, 3]})
    row = Row("tiny", "", Kind.BACK_TO_BACK, (ADD, other), (Comparison("other", "plain call", at_most(1.0)),))
    complaints = list[str]()
    [found] = measure(row, TINY, 0.0, complaints.append).verdicts
    assert found.met is None
    assert "plain call answered 3, other answered 4" in found.reason
    assert complaints


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Entrant("x", "hotbed.bench.floors:function", {"name": "none", "args": []}), "AttributeError"),
        (Entrant("x", "hotbed.bench.nowhere:function"), "ModuleNotFoundError"),
        (Entrant("x", "hotbed.bench.floors:ping", needs=("no_such_module",)), "not installed: pip install"),
    ],
)
def test_an_entrant_that_cannot_take_part_is_named_with_the_reason(broken: Entrant, reason: str) -> None:
    row = Row("tiny", "", Kind.BACK_TO_BACK, (ADD, broken), (Comparison("plain call", "x"),))
    found = measure(row, TINY, 0.0, print)
    assert reason in found.absent["x"]
    assert found.samples["plain call"].seconds


def test_a_guest_that_ends_without_a_word_is_told_by_its_last_line() -> None:
    each = guest.Guest([sys.executable, "-c", "import sys; sys.exit('its last line')"])
    try:
        with pytest.raises(guest.GuestError, match="ended: its last line"):
            each.wait_ready()
    finally:
        each.close()


def test_an_unknown_row_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(True, "no-such-row", tmp_path, False) == 2
    assert "no row is named 'no-such-row'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(False, None, None, True) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.id for row in ROWS]


@pytest.mark.slow
def test_the_command_writes_both_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotbed.bench.command.QUICK", TINY)
    status = bench(True, "scenario-sum", tmp_path / "out", False)
    document = json.loads((tmp_path / "out" / "benchmark-results.json").read_text())
    assert status == 0, capsys.readouterr().err
    assert document["command"] == "hotbed bench --quick --rows scenario-sum"
    assert [entrant["name"] for entrant in document["rows"][0]["entrants"]] == [
        "hotbed fresh",
        "hotbed worker",
        "python file",
        "warm process",
    ]
    assert "### scenario-sum" in (tmp_path / "out" / "benchmark-report.md").read_text()
