"""Rows of the sandbox: what it costs a caller, a full machine, and mechanism by mechanism."""

from __future__ import annotations

from hotbed.bench.fresh_rows import CALLERS, CORES, PANDAS, SUM, raw_fork
from hotbed.bench.row import Comparison, Entrant, Kind, Row, at_least, at_most
from hotbed.bench.scenario import GROUPBY, WARMUP, Scenario

# In the order in which a child takes them; each variant has those before it as well.
STEPS = ("cell", "landlock", "capabilities")


def isolated(name: str, scenario: Scenario, isolation: str, *, callers: int = 1) -> Entrant:
    """hotbed's fresh mode on a program, isolated or not."""
    options = {**scenario.options, "mode": "fresh", "isolation": isolation}
    return Entrant(name, "hotbed.bench.engines:program", options, callers=callers, needs=scenario.preload)


def paced(id_: str, scenario: Scenario, what: str) -> Row:
    """A fresh execution in the full sandbox against one in none."""
    return Row(
        id_,
        f"{what}, in the full sandbox and in none, 20 ms between calls",
        Kind.PACED,
        (
            isolated('hotbed fresh run, isolation="strict"', scenario, "strict"),
            isolated('hotbed fresh run, isolation="none"', scenario, "none"),
        ),
        (
            Comparison(
                'hotbed fresh run, isolation="strict"', 'hotbed fresh run, isolation="none"', at_most(1.15)
            ),
            Comparison('hotbed fresh run, isolation="strict"', 'hotbed fresh run, isolation="none"', q=0.95),
        ),
        share=0.8,
    )


def saturated(id_: str, preload: tuple[str, ...], what: str) -> Row:
    """Sandboxed executions as fast as the machine goes."""
    trivial = Scenario(SUM, [1, 2], preload)
    return Row(
        id_,
        f"sums of two numbers in fresh processes of {what} in the full sandbox, {CALLERS} callers on "
        f"{CORES} cores without rest",
        Kind.SATURATED,
        (
            isolated('hotbed fresh run, isolation="strict"', trivial, "strict", callers=CALLERS),
            isolated('hotbed fresh run, isolation="none"', trivial, "none", callers=CALLERS),
            raw_fork(preload, copies=CORES),
        ),
        (
            Comparison('hotbed fresh run, isolation="strict"', "raw fork+exit+reap", at_least(0.4)),
            Comparison('hotbed fresh run, isolation="strict"', 'hotbed fresh run, isolation="none"'),
        ),
        share=1.2,
    )


def mechanisms(id_: str, preload: tuple[str, ...], what: str) -> Row:
    """One child's life with one mechanism more each time."""
    bare = "no step"
    variants: dict[str, list[str]] = {bare: []}
    for at, name in enumerate(STEPS):
        variants[f"to {name}"] = list(STEPS[: at + 1])
    variants["all, a new cell each time"] = ["new cell", *STEPS[1:]]
    return Row(
        id_,
        f"fork+exit+reap of a child of {what} that takes the sandbox's steps, each with those before it",
        Kind.BACK_TO_BACK,
        tuple(
            Entrant(
                name,
                options={"preload": list(preload), "steps": steps},
                needs=preload,
                works=False,
                raw=True,
                batch=20,
            )
            for name, steps in variants.items()
        ),
        tuple(Comparison(name, bare) for name in variants if name != bare),
        note="The order is the one in which a child takes them: " + ", ".join(STEPS) + ". A cell is a pid "
        "and a mount namespace with a private file system; it is cleared and used again. Its clearing is "
        "part of the time.",
    )


ROWS = (
    paced(
        "sandbox-bare", Scenario(SUM, [1, 2]), "a sum of two numbers in a fresh process of a bare template"
    ),
    paced(
        "sandbox-groupby", Scenario(GROUPBY, preload=PANDAS, warmup=WARMUP), "a pandas groupby of 10,000 rows"
    ),
    saturated("sandbox-saturated-bare", (), "a bare template"),
    saturated("sandbox-saturated-pandas", PANDAS, "a template with NumPy and pandas"),
    mechanisms("sandbox-steps-bare", (), "a bare template"),
    mechanisms("sandbox-steps-pandas", PANDAS, "a template with NumPy and pandas"),
)
