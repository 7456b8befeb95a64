"""Every way to store a scalar is read, and nothing else becomes one: written with TensorBoard's own
protobuf, compared with its `make_ndarray`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.util.tensor_util import make_ndarray

from bridges.formats.events import proto
from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.hparams import SessionStart
from bridges.formats.events.reader import decode, decode_many

# the numbers of each dtype as the integers of their bits
BITS: dict[str, tuple[int, list[int]]] = {
    "DT_FLOAT": (4, [0x3F800000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC12345, 0x7F812345, 1]),
    "DT_DOUBLE": (
        8,
        [0x3FB999999999999A, 1 << 63, 0x7FF0 << 48, 0xFFF0 << 48, (0x7FF8 << 48) + 99, 1],
    ),
    "DT_INT64": (8, [1, 0, (1 << 64) - 3, 2**53 + 1, 2**63 - 1, 1 << 63]),
    "DT_INT32": (4, [7, 0, (1 << 32) - 7, 2**31 - 1, 1 << 31]),
    "DT_INT16": (2, [7, 0, (1 << 16) - 7]),
    "DT_INT8": (1, [7, 0, (1 << 8) - 7]),
    "DT_UINT8": (1, [7, 0, 255]),
    "DT_UINT16": (2, [7, 0, 65535]),
    "DT_HALF": (2, [0x3C00, 0x8000, 0x7C00, 0x7E01, 1]),
    "DT_BFLOAT16": (2, [0x3F80, 0x8000, 0x7F80, 0x7FC1, 0x0001]),
    "DT_BOOL": (1, [1, 0]),
}
FIELDS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    "DT_INT64": "int64_val",
    "DT_BOOL": "bool_val",
    "DT_HALF": "half_val",
    "DT_BFLOAT16": "half_val",
}
SIGNED = {"DT_INT64", "DT_INT32", "DT_INT16", "DT_INT8"}
SHAPES: dict[str, list[int]] = {"rank 0": [], "[1]": [1], "[1, 1]": [1, 1]}


def tensor_of(dtype: str, bits: int, form: str, shape: Sequence[int]) -> tensor_pb2.TensorProto:
    """A tensor of one number. `form`: `content`, `typed` or `omitted`."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(dtype))
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    width = BITS[dtype][0]
    raw = bits.to_bytes(width, "little")
    if form == "content":
        tensor.tensor_content = raw
    elif form == "typed":
        values = getattr(tensor, FIELDS.get(dtype, "int_val"))
        if dtype in ("DT_FLOAT", "DT_DOUBLE"):
            values.append(np.frombuffer(raw, f"<f{width}")[0])
        elif dtype == "DT_BOOL":
            values.append(bool(bits))
        else:
            values.append(int.from_bytes(raw, "little", signed=dtype in SIGNED))
    return tensor


def wanted(dtype: str, bits: int) -> tuple[str, bytes]:
    """Dtype and bytes of the number as it is to be read, in the simplest words."""
    width = BITS[dtype][0]
    raw = bits.to_bytes(width, "little")
    if dtype == "DT_FLOAT":
        return "float32", raw
    if dtype == "DT_BFLOAT16":
        return "float32", bytes(2) + raw
    if dtype == "DT_HALF":
        return "float32", np.frombuffer(raw, "<f2").astype("<f4").tobytes()
    if dtype == "DT_DOUBLE":
        return "float64", raw
    number = int.from_bytes(raw, "little", signed=dtype in SIGNED)
    if dtype in ("DT_INT64", "DT_INT32"):
        return "float64", struct.pack("<d", number)
    return "float32", struct.pack("<f", number)


def values_of(
    numbers: Sequence[tensor_pb2.TensorProto], metadata: str, plugin: str = "scalars"
) -> Iterator[event_pb2.Event]:
    for index, tensor in enumerate(numbers):
        event = event_pb2.Event(wall_time=1.5e9 + index / 8, step=index * 50)
        value = event.summary.value.add(tag="a/b", tensor=tensor)
        if metadata == "all" or (metadata == "first" and not index):
            value.metadata.plugin_data.plugin_name = plugin
        yield event


def framed(events: Iterator[event_pb2.Event] | Sequence[event_pb2.Event]) -> bytes:
    return b"".join(proto.frames([event.SerializeToString() for event in events]))


def points(file: EventFile, tag: str = "a/b") -> list[tuple[int, bytes, float]]:
    part = file.points(tag)
    raw = [part.value[n : n + 1].tobytes() for n in range(len(part.value))]
    return [*zip(part.step.tolist(), raw, part.wall_time.tolist(), strict=True)]


CASES = [
    (dtype, form, shape)
    for dtype in BITS
    for form in ("content", "typed", "omitted")
    for shape in SHAPES
]


@pytest.mark.parametrize("copies", [1, 9])
@pytest.mark.parametrize("metadata", ["first", "all"])
@pytest.mark.parametrize(("dtype", "form", "shape"), CASES)
def test_a_scalar_is_read_however_it_is_stored(
    dtype: str, form: str, shape: str, metadata: str, copies: int
) -> None:
    """`copies` decides between the columnar and the plain way."""
    numbers = [0] if form == "omitted" else BITS[dtype][1]
    numbers = [bits for bits in numbers for _ in range(copies)]
    tensors = [tensor_of(dtype, bits, form, SHAPES[shape]) for bits in numbers]
    if form == "typed" and dtype == "DT_FLOAT":  # protobuf makes a signaling NaN quiet
        numbers = [bits | 0x400000 if bits == 0x7F812345 else bits for bits in numbers]
    plugins: dict[str, str] = {}
    file = decode("x", framed(values_of(tensors, metadata)), plugins=plugins)
    kinds = [wanted(dtype, bits) for bits in numbers]
    want = [(n * 50, raw, 1.5e9 + n / 8) for n, (_, raw) in enumerate(kinds)]
    assert points(file) == want
    assert {str(part.value.dtype) for part in file.parts} == {kinds[0][0]}
    assert plugins == {"a/b": "scalars"}
    assert not file.others
    if form == "content" and dtype != "DT_BFLOAT16":  # which TensorBoard cannot read
        theirs = np.array([float(make_ndarray(tensor).reshape(-1)[0]) for tensor in tensors])
        np.testing.assert_array_equal(file.points("a/b").value, theirs)
    rounded = [1 for bits in numbers if dtype == "DT_INT64" and bits in (2**53 + 1, 2**63 - 1)]
    assert file.rounded == len(rounded)


@pytest.mark.parametrize("metadata", ["first", "all"])
def test_scalars_of_all_kinds_in_turns_are_read_as_one_by_one(
    metadata: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few records of each of many shapes are decoded together."""
    events: list[event_pb2.Event] = []
    for number, step in enumerate([0, 5, 300, -3, 2**40]):
        for dtype, form, shape in CASES:
            bits = BITS[dtype][1][number % len(BITS[dtype][1])]
            tensor = tensor_of(dtype, bits, form, SHAPES[shape])
            event = event_pb2.Event(wall_time=1.5e9 + len(events) / 8, step=step)
            value = event.summary.value.add(tag=f"{dtype} {form} {shape}", tensor=tensor)
            if metadata == "all" or not number:
                value.metadata.plugin_data.plugin_name = "scalars"
            event.summary.value.add(tag=f"simple {dtype}", simple_value=len(events) / 3)
            events.append(event)
    data = framed(events)
    together = decode("x", data)
    monkeypatch.setattr("bridges.formats.events.reader.MIN_MIXED_RECORDS", 1 << 30)
    alone = decode("x", data)
    assert together.scalars.keys() == alone.scalars.keys()
    assert len(alone.scalars) == len(CASES) + len(BITS)
    for tag in alone.scalars:
        assert points(together, tag) == points(alone, tag)
        assert together.points(tag).offset.tolist() == alone.points(tag).offset.tolist()
    assert together.rounded == alone.rounded


@pytest.mark.parametrize("shape", [[2], [0], [2, 1], [-1]])
def test_more_or_less_than_one_number_is_no_scalar(shape: list[int]) -> None:
    tensors = [tensor_of("DT_FLOAT", 1, "content", shape) for _ in range(10)]
    file = decode("x", framed(values_of(tensors, "all")))
    assert not file.scalars
    assert file.others == {("scalars", "a/b"): 10}


def test_two_values_in_a_tensor_of_one_element_are_no_scalar() -> None:
    tensor = tensor_of("DT_FLOAT", 1, "typed", [])
    tensor.float_val.append(2.0)
    file = decode("x", framed(values_of([tensor], "all")))
    assert file.others == {("scalars", "a/b"): 1}


@pytest.mark.parametrize("plugin", ["histograms", "custom", "pr_curves"])
@pytest.mark.parametrize("metadata", ["first", "all"])
def test_a_tensor_of_another_plugin_is_counted(plugin: str, metadata: str) -> None:
    tensors = [tensor_of("DT_DOUBLE", n, "content", []) for n in range(20)]
    file = decode("x", framed(values_of(tensors, metadata, plugin)))
    assert not file.scalars
    assert file.others == {(plugin, "a/b"): 20}


def test_a_tensor_without_plugin_is_counted() -> None:
    tensors = [tensor_of("DT_FLOAT", n, "content", []) for n in range(20)]
    file = decode("x", framed(values_of(tensors, "none")))
    assert not file.scalars
    assert file.others == {("tensor", "a/b"): 20}


def test_the_plugin_of_a_tag_is_known_from_an_earlier_file() -> None:
    tensors = [tensor_of("DT_FLOAT", n, "content", []) for n in range(20)]
    plugins: dict[str, str] = {}
    first = EventBytes("1", framed(values_of(tensors, "first")), plugins)
    second = EventBytes("2", framed(values_of(tensors, "none")), plugins)
    foreign = EventBytes("3", second.data, {})
    for found in ([*decode_many([first, second, foreign])], [
        decode("1", first.data, plugins=plugins), decode("2", second.data, plugins=plugins),
        decode("3", foreign.data),
    ]):  # fmt: skip
        one, two, three = found
        assert isinstance(one, EventFile)
        assert isinstance(two, EventFile)
        assert isinstance(three, EventFile)
        assert points(one) == points(two)
        assert three.others == {("tensor", "a/b"): 20}


def test_tensors_can_be_left_out() -> None:
    tensors = [tensor_of("DT_FLOAT", n, "content", []) for n in range(20)]
    file = decode("x", framed(values_of(tensors, "all")), tensors=False)
    assert not file.scalars
    assert file.others == {("scalars", "a/b"): 20}


def test_one_tag_in_several_forms_is_in_file_order() -> None:
    events = []
    for step in range(60):
        event = event_pb2.Event(wall_time=float(step), step=step)
        if step % 3 == 0:
            event.summary.value.add(tag="a/b", simple_value=step / 3)
        else:
            dtype = "DT_DOUBLE" if step % 3 == 1 else "DT_INT64"
            bits = step if step % 3 == 2 else int.from_bytes(struct.pack("<d", step / 3), "little")
            value = event.summary.value.add(tag="a/b", tensor=tensor_of(dtype, bits, "typed", []))
            value.metadata.plugin_data.plugin_name = "scalars"
        events.append(event)
    part = decode("x", framed(events)).points("a/b")
    assert part.step.tolist() == [*range(60)]
    want = [float(s) if s % 3 == 2 else float(np.float32(s / 3)) if s % 3 == 0 else s / 3
            for s in range(60)]  # fmt: skip
    assert part.value.tolist() == want


def test_values_of_one_record_keep_their_order() -> None:
    events = []
    for step in range(50):
        event = event_pb2.Event(wall_time=1.0, step=step // 7)
        for n in range(3):
            event.summary.value.add(tag="a/b", simple_value=10 * step + n)
        events.append(event)
    part = decode("x", framed(events)).points("a/b")
    assert part.value.tolist() == [10 * step + n for step in range(50) for n in range(3)]


@pytest.mark.parametrize("step", [0, 1, -3, 127, 128, 2**40, 2**53 + 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("count", [1, 40])
def test_any_step_is_exact(step: int, count: int) -> None:
    event = event_pb2.Event(wall_time=1.0, step=step)
    event.summary.value.add(tag="a/b", simple_value=1.0)
    assert decode("x", framed([event] * count)).points("a/b").step.tolist() == [step] * count


# --- everything else ---------------------------------------------------------------------------


def with_value(step: int = 0, **fields: Any) -> event_pb2.Event:
    event = event_pb2.Event(wall_time=5.0 + step, step=step)
    event.summary.value.add(**fields)
    return event


def text_tensor(*texts: bytes) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=texts)
    tensor.tensor_shape.dim.add(size=len(texts))
    return tensor


def metadata_of(plugin: str, content: bytes = b"") -> summary_pb2.SummaryMetadata:
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def test_texts_are_known_by_plugin_or_tag() -> None:
    events = [
        with_value(1, tag="a", tensor=text_tensor(b"one"), metadata=metadata_of("text")),
        with_value(2, tag="a", tensor=text_tensor(b"two", "drei ü".encode(), b"\xff")),
        with_value(3, tag="b/text_summary", tensor=text_tensor(b"old")),
        with_value(4, tag="c/text_summary", tensor=text_tensor(b"x"), metadata=metadata_of("x")),
        with_value(
            5, tag="keras", tensor=text_tensor(b"{}"), metadata=metadata_of("graph_keras_model")
        ),
        with_value(6, tag="d", tensor=text_tensor(b"none")),
    ]
    file = decode("x", framed(events))
    assert [text[1:] for text in file.texts] == [
        ("a", 1, "one", 6.0),
        ("a", 2, "two", 7.0),
        ("a", 2, "drei ü", 7.0),
        ("a", 2, "\\xff", 7.0),
        ("b/text_summary", 3, "old", 8.0),
    ]
    assert file.others == {
        ("x", "c/text_summary"): 1,
        ("graph_keras_model", "keras"): 1,
        ("tensor", "d"): 1,
    }


def test_other_kinds_are_counted_by_kind_and_tag() -> None:
    histogram = summary_pb2.HistogramProto(min=0, max=1, num=2, bucket=[1, 1], bucket_limit=[0, 1])
    events = [
        *[with_value(n, tag="weights", histo=histogram) for n in range(12)],
        with_value(tag="picture", image=summary_pb2.Summary.Image(height=1)),
        with_value(tag="sound", audio=summary_pb2.Summary.Audio(num_channels=1)),
        with_value(tag="only", metadata=metadata_of("mesh")),
        with_value(tag="nothing"),
        event_pb2.Event(graph_def=b"graph"),
        event_pb2.Event(meta_graph_def=b"meta"),
        event_pb2.Event(log_message=event_pb2.LogMessage(message="hi")),
        event_pb2.Event(tagged_run_metadata=event_pb2.TaggedRunMetadata(tag="batch_3")),
        event_pb2.Event(session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.STOP)),
        event_pb2.Event(wall_time=1.0, step=3),
    ]
    file = decode("x", framed(events) + proto.frame(b"\xff\xff"))
    assert file.others == {
        ("histograms", "weights"): 12,
        ("images", "picture"): 1,
        ("audio", "sound"): 1,
        ("mesh", "only"): 1,
        ("metadata", "nothing"): 1,
        ("graph_def", ""): 1,
        ("meta_graph_def", ""): 1,
        ("log_message", ""): 1,
        ("tagged_run_metadata", "batch_3"): 1,
        ("session_log", ""): 1,
        ("unreadable", ""): 1,
    }


def test_a_scalar_beside_a_histogram_is_read_and_the_histogram_counted() -> None:
    events = [with_value(n, tag="a/b", simple_value=n) for n in range(20)]
    for event in events:
        event.summary.value.add(tag="weights", histo=summary_pb2.HistogramProto(num=1))
    file = decode("x", framed(events))
    assert file.points("a/b").step.tolist() == [*range(20)]
    assert file.others == {("histograms", "weights"): 20}


def test_restarts_versions_and_the_lowest_time() -> None:
    events = [
        event_pb2.Event(wall_time=30.0, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=float("nan"), graph_def=b"x"),
        with_value(1, tag="a/b", simple_value=1),
        event_pb2.Event(wall_time=40.0, file_version="brain.Event:2"),
        event_pb2.Event(
            wall_time=41.0,
            step=7,
            session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
        ),
    ]
    data = framed(events)
    file = decode("x", data)
    offsets = np.cumsum([0, *(event.ByteSize() + 16 for event in events)]).tolist()
    assert file.versions == [(0, 30.0), (offsets[3], 40.0)]
    assert file.restarts == [(offsets[4], 7)]
    assert file.start == 30.0
    assert file.first_time == 6.0
    assert decode("x", b"").first_time is None
    assert decode("x", proto.frame(proto.summary_event(float("inf"), 1, []))).first_time is None


def test_hparams_are_read() -> None:
    params = {"lr": 0.1, "layers": 3, "name": "größe", "flag": True, "off": False}
    start = hparams_pb(params, trial_id="group", start_time_secs=12.5)
    end = plugin_data_pb2.HParamsPluginData()
    end.session_end_info.status = 2
    end.session_end_info.end_time_secs = 99.0
    other = plugin_data_pb2.HParamsPluginData()
    other.session_start_info.hparams["list"].list_value.values.add(number_value=1.0)
    other.session_start_info.hparams["empty"].string_value = ""
    experiment = plugin_data_pb2.HParamsPluginData()
    experiment.experiment.description = "d"
    events = [event_pb2.Event(wall_time=1.0, summary=start)]
    events += [
        with_value(tag=f"_hparams_/{n}", metadata=metadata_of("hparams", one.SerializeToString()))
        for n, one in enumerate((end, other, experiment))
    ]
    file = decode("x", framed(events))
    (_, first), (_, second), (_, third) = file.sessions
    assert first == (params, "group", 12.5, ())
    assert isinstance(first, SessionStart)
    kinds = {"lr": float, "layers": float, "name": str, "flag": bool, "off": bool}
    assert {name: type(value) for name, value in first.params.items()} == kinds
    assert second == ("failure", 99.0)
    assert third == ({"empty": ""}, "", 0.0, ("list",))
    assert file.others == {("hparams", "_hparams_/2"): 1}
    assert not file.scalars
