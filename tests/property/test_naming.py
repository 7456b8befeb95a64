"""Tags are those of the live callbacks, release by release, and no two keys share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import ConfigError
from bridges.huggingface.callback_naming import TARGETS, CallbackNaming
from bridges.huggingface.callback_releases import LATEST, Version, parse_version
from bridges.pipeline.options import LayoutOptions
from bridges.stream.naming import Place
from bridges.stream.tagging import tag_table

SERIES, SUMMARY, TEXT, DROPPED = Place.SERIES, Place.SUMMARY, Place.TEXT, Place.DROPPED

TAGS: list[tuple[str, Version, str, str]] = [
    ("tensorboard", LATEST, "loss", "train/loss"),
    ("tensorboard", LATEST, "eval_loss", "eval/loss"),
    ("tensorboard", LATEST, "eval_dev_loss", "eval/dev_loss"),
    ("tensorboard", LATEST, "eval_eval_x", "eval/eval_x"),
    ("tensorboard", LATEST, "eval_", "eval/"),
    ("tensorboard", LATEST, "eval", "train/eval"),
    ("tensorboard", LATEST, "evaluate", "train/evaluate"),
    ("tensorboard", LATEST, "test_acc", "test/acc"),
    ("tensorboard", LATEST, "testing", "train/testing"),
    ("tensorboard", LATEST, "predict_acc", "train/predict_acc"),
    ("tensorboard", LATEST, "train_loss", "train/train_loss"),
    ("tensorboard", LATEST, "train/acc_0", "train/train/acc_0"),
    ("tensorboard", LATEST, "total_flos", "train/total_flos"),
    ("tensorboard", LATEST, "epoch", "train/epoch"),
    ("tensorboard", LATEST, "rewards/chosen", "train/rewards/chosen"),
    ("tensorboard", LATEST, "eval_ir@1", "eval/ir@1"),
    ("tensorboard", (4, 12), "test_acc", "test/acc"),
    ("tensorboard", (4, 11), "test_acc", "train/test_acc"),
    ("tensorboard", (3, 5), "eval_loss", "eval/loss"),
    ("tensorboard", (3, 4), "eval_loss", "eval_loss"),
    ("tensorboard", (3, 4), "loss", "loss"),
    ("wandb", LATEST, "loss", "train/loss"),
    ("wandb", LATEST, "eval_dev_loss", "eval/dev_loss"),
    ("wandb", (4, 11), "test_acc", "train/test_acc"),
    ("wandb", (3, 4), "eval_loss", "eval_loss"),
    ("mlflow", LATEST, "loss", "loss"),
    ("mlflow", LATEST, "eval_loss", "eval_loss"),
    ("mlflow", LATEST, "rewards/chosen", "rewards/chosen"),
    ("mlflow", LATEST, "eval_ir@1", "eval_ir_1"),
    ("mlflow", LATEST, "eval_é (x)", "eval__ _x_"),
    ("mlflow", LATEST, "a.b-c_d:e f", "a.b-c_d:e f"),
    ("mlflow", (4, 54), "a@1", "a_1"),
    ("mlflow", (4, 53), "a@1", "a@1"),
]


@pytest.mark.parametrize(("target", "version", "key", "tag"), TAGS)
def test_the_tag_is_that_of_the_callback(target: str, version: Version, key: str, tag: str) -> None:
    assert CallbackNaming(target, version=version).tag(key) == tag


PLACES: list[tuple[str, Version, str, type, Place]] = [
    ("tensorboard", LATEST, "loss", float, SERIES),
    ("tensorboard", LATEST, "flag", bool, SERIES),
    ("tensorboard", LATEST, "train_loss", float, SERIES),
    ("tensorboard", LATEST, "note", str, TEXT),
    ("tensorboard", (4, 47), "note", str, TEXT),
    ("tensorboard", (4, 46), "note", str, DROPPED),
    ("tensorboard", LATEST, "note", list, DROPPED),
    ("tensorboard", LATEST, "note", dict, DROPPED),
    ("tensorboard", LATEST, "note", type(None), DROPPED),
    ("mlflow", LATEST, "loss", int, SERIES),
    ("mlflow", LATEST, "train_loss", float, SERIES),
    ("mlflow", LATEST, "flag", bool, SERIES),
    ("mlflow", LATEST, "note", str, DROPPED),
    ("mlflow", LATEST, "note", list, DROPPED),
    ("wandb", LATEST, "loss", float, SERIES),
    ("wandb", LATEST, "epoch", float, SERIES),
    ("wandb", LATEST, "train_runtime", float, SUMMARY),
    ("wandb", LATEST, "train_samples_per_second", float, SUMMARY),
    ("wandb", LATEST, "train_steps_per_second", float, SUMMARY),
    ("wandb", LATEST, "train_loss", float, SUMMARY),
    ("wandb", LATEST, "total_flos", int, SUMMARY),
    ("wandb", LATEST, "train_tokens_per_second", float, SERIES),
    ("wandb", (4, 39), "train_loss", float, SUMMARY),
    ("wandb", (4, 38), "train_loss", float, SERIES),
    ("wandb", LATEST, "note", str, SERIES),
    ("wandb", LATEST, "note", dict, SERIES),
    ("wandb", LATEST, "note", type(None), SERIES),
]


@pytest.mark.parametrize(("target", "version", "key", "kind", "place"), PLACES)
def test_the_place_is_that_of_the_callback(
    target: str, version: Version, key: str, kind: type, place: Place
) -> None:
    assert CallbackNaming(target, version=version).place(key, kind) == place


@pytest.mark.parametrize(
    ("style", "version", "epoch"),
    [("live", LATEST, "train/epoch"), ("live", (3, 4), "epoch"), ("raw", LATEST, "epoch")],
)
def test_the_x_axes_of_wandb_are_keys_of_its_rows(style: str, version: Version, epoch: str) -> None:
    naming = CallbackNaming("wandb", style, version)
    assert (naming.step_key, naming.epoch_key) == ("train/global_step", epoch)
    assert naming.any_axis


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("5.24", (5, 24)),
        ("4.0", (4, 0)),
        ("4.57.1", (4, 57)),
        ("3.4", (3, 4)),
        ("4.8.0.dev0", (4, 8)),
    ],
)
def test_versions(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text", ["", "5", "five", "5.x", "v5.1", "5.1-rc", " 5.1", "5.1 ", "5.1\n"]
)
def test_no_version(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_version(text)
    assert str(caught.value) == (
        f"--callback-version {text!r} is not a version. Give a transformers release such as 5.24."
    )


@pytest.mark.parametrize("text", ["3.3", "2.11", "6.0", "0.1"])
def test_unknown_versions(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_version(text)
    assert str(caught.value) == (
        f"--callback-version {text!r} is not known. The callbacks are known from 3.4 to 5.24."
    )


NAMINGS = st.builds(
    CallbackNaming,
    st.sampled_from([*TARGETS, "plug-in"]),
    st.sampled_from(["live", "raw"]),
    st.sampled_from([(3, 4), (3, 5), (4, 11), (4, 12), (4, 39), (4, 54), LATEST]),
)
KEYS = st.lists(
    st.one_of(
        st.from_regex(r"(eval_|test_|train/)?[ab@é%_]{1,2}(-[0-9a-f]{8})?", fullmatch=True),
        st.text(st.characters()),
    ),
    unique=True,
)


@given(NAMINGS, KEYS)
def test_no_two_keys_share_a_tag(naming: CallbackNaming, keys: list[str]) -> None:
    tags, findings = tag_table(naming, keys)
    assert list(tags) == keys
    assert len(set(tags.values())) == len(keys)
    collided = [key for key in keys if f"key {key!r}" in {finding.where for finding in findings}]
    assert len(collided) == len(findings)
    assert {finding.code for finding in findings} <= {"tag-collision"}


@given(NAMINGS, KEYS, KEYS)
def test_new_keys_never_rename_old_ones(
    naming: CallbackNaming, keys: list[str], more: list[str]
) -> None:
    early, _ = tag_table(naming, keys)
    late, _ = tag_table(naming, dict.fromkeys([*keys, *more]))
    assert {key: late[key] for key in keys} == early


@given(KEYS)
def test_raw_naming_keeps_what_utf8_can_hold(keys: list[str]) -> None:
    for target in TARGETS:
        tags, _ = tag_table(CallbackNaming(target, "raw"), keys)
        for key, tag in tags.items():
            tag.encode()
            if key.isascii() and "\\" not in key:
                assert tag == key


def test_a_collision_has_a_stable_suffix_and_a_finding() -> None:
    tags, (finding,) = tag_table(CallbackNaming("mlflow"), ["a_1", "a@1"])
    assert tags == {"a_1": "a_1", "a@1": "a_1-e351959b"}
    assert (finding.where, finding.message) == (
        "key 'a@1'",
        "the tag 'a_1' belongs to key 'a_1' already; this key gets a suffix",
    )


def test_a_suffixed_tag_that_is_taken_is_suffixed_again() -> None:
    naming = CallbackNaming("mlflow")
    (_, crafted), _ = tag_table(naming, ["a@1", "a%1"])[0].values(), None
    tags, findings = tag_table(naming, ["a@1", crafted, "a%1"])
    assert len(set(tags.values())) == 3
    assert len(findings) == 1


def test_the_release_before_the_default_one_names_alike_and_makes_no_other_run() -> None:
    assert LATEST == (5, 24)
    assert LayoutOptions(callback_version="5.23").identity() == LayoutOptions().identity() == {}
    assert LayoutOptions(callback_version="5.22").identity() == {"callback": "5.22"}
