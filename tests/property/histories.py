"""Hypothesis strategies for log histories: plain ones, and ones with every oddity that is legal."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Rows = list[dict[str, Any]]

INT64 = st.integers(-(2**63), 2**63 - 1)
KEYS = st.sampled_from(
    (
        *("loss", "grad_norm", "learning_rate", "eval_loss", "eval_runtime", "test_acc"),
        *("train_loss", "total_flos", "train_runtime", "rewards/f", "note", "é", "epoch"),
    )
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.floats(),
    st.floats(width=32),
    INT64,
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
)
EPOCHS = st.one_of(st.floats(), st.floats(0, 20), st.integers(0, 20))


@st.composite
def odd_row(draw: st.DrawFn) -> dict[str, Any]:
    """A row of any keys, types and order, with or without step and epoch."""
    row: dict[str, Any] = draw(st.dictionaries(KEYS, VALUES, max_size=5))
    if "epoch" in row:
        row["epoch"] = draw(EPOCHS)
    step = draw(st.one_of(st.none(), st.integers(-3, 30), INT64))
    return row if step is None else {**row, "step": step}


def odd_rows() -> st.SearchStrategy[Rows]:
    """Rows that no Trainer writes but the format allows."""
    return st.lists(odd_row(), max_size=12)


@st.composite
def usual_rows(draw: st.DrawFn) -> Rows:
    """Rows as a Trainer writes them: rising steps, training, evaluation, a summary at the end."""
    rows: Rows = []
    per_epoch = draw(st.integers(3, 50))
    with_tokens = draw(st.booleans())
    every = draw(st.integers(1, 10))
    for step in range(every, every * draw(st.integers(1, 15)) + 1, every):
        epoch = step / per_epoch
        row = {"loss": draw(st.floats(0, 9)), "learning_rate": 1e-5, "epoch": epoch, "step": step}
        rows.append({**row, "train_runtime": 0.5 * step} if with_tokens else row)
        if draw(st.integers(0, 3)) == 0:
            seconds = draw(st.floats(0, 100))
            rows.append({"eval_loss": 1.5, "eval_runtime": seconds, "epoch": epoch, "step": step})
    if draw(st.booleans()):
        last = {"epoch": rows[-1]["epoch"], "step": rows[-1]["step"]}
        runtime = draw(st.floats(0.0001, 1e5))
        losses = [row["loss"] for row in rows if "loss" in row]
        summary = {"train_loss": sum(losses) / len(losses), "total_flos": 1e9}
        rows.append({**summary, "train_runtime": runtime, **last})
    return rows
