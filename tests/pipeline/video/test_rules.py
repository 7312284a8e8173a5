"""Rules of the room that a review would otherwise have to find again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.video

_SOURCES = sorted(Path(pipeline.video.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"set_level", "it can deadlock decoders of damaged streams"),
        (r"dts is None:\s*continue", "it drops the first key frame of Matroska files"),
        (r"[\"']AUTO[\"']|[\"']FRAME[\"']", "frame threads decode damaged streams differently each time"),
        (r"\.to_rgb\(|\.to_image\(", "they convert with BT.601 whatever the tags say"),
        (r"import (torch|ray)\b|from (torch|ray)\b", "this room knows neither"),
    ],
)
def test_no_source_of_the_room_uses_what_is_known_to_go_wrong(pattern, why):
    guilty = [path.name for path in _SOURCES if re.search(pattern, path.read_text())]
    assert not guilty, why


#: Names of integers or fractions that mean a time, a clock or a rate.
_TIME = re.compile(
    r"(^|_)(pts|dts|time|times|time_base|duration|durations|seconds|rate|fps|shift|gap|offset)s?$"
)
_SPOKEN = (ast.JoinedStr,)  # Messages may round.
#: from_ndarray drops all tags; these functions name matrix and range to the conversion that follows.
_ARRAYS_WITH_COLOURS = {("colour.py", "rgb_to_frame")}


def _with_parents(source: str) -> tuple[ast.Module, dict[ast.AST, ast.AST]]:
    tree = ast.parse(source)
    return tree, {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _ancestors(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _names(node: ast.AST) -> set[str]:
    """Identifiers and attribute names anywhere inside an expression."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def float_times(source: str) -> list[str]:
    """Expressions outside messages that turn a time into a float."""
    tree, parents = _with_parents(source)
    found = []
    for node in ast.walk(tree):
        if not any(_TIME.search(name) for name in _names(node)) or not isinstance(node, ast.expr):
            continue
        if any(isinstance(a, _SPOKEN) for a in _ancestors(node, parents)):
            continue
        converts = isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "float",
            "np.float64",
            "np.float32",
        )
        scales = isinstance(node, ast.BinOp) and any(
            isinstance(side, ast.Constant) and isinstance(side.value, float)
            for side in (node.left, node.right)
        )
        if converts or scales:
            found.append(ast.unparse(node))
    return found


def arrays_without_colours(source: str, name: str) -> list[str]:
    """Functions that make frames from arrays though nobody has seen to their colours."""
    tree, parents = _with_parents(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "from_ndarray":
            inside = next((a.name for a in _ancestors(node, parents) if isinstance(a, ast.FunctionDef)), "")
            if (name, inside) not in _ARRAYS_WITH_COLOURS:
                found.append(inside)
    return found


def unclosed_opens(source: str) -> list[str]:
    """Calls that open a container neither in a ``with`` statement or exit stack nor to be returned."""
    tree, parents = _with_parents(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("av.open", "open_media"):
            above = parents[node]
            stacked = isinstance(above, ast.Call) and ast.unparse(above.func).endswith(".enter_context")
            if not stacked and not isinstance(above, ast.withitem | ast.Return):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_no_time_is_turned_into_a_float(path):
    assert float_times(path.read_text()) == []


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_frames_are_made_from_arrays_only_where_their_colours_are_named(path):
    assert arrays_without_colours(path.read_text(), path.name) == []


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_every_container_that_is_opened_is_closed(path):
    assert unclosed_opens(path.read_text()) == []


def test_the_conversion_after_an_array_names_matrix_and_range_on_both_sides():
    source = next(path for path in _SOURCES if path.name == "colour.py").read_text()
    calls = [
        {word.arg for word in node.keywords}
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".reformat")
    ]
    named = {"src_colorspace", "dst_colorspace", "src_color_range", "dst_color_range", "interpolation"}
    assert calls
    assert all(words >= named for words in calls)
    # These two convert pixels though their names say tags.
    assert not any(words & {"dst_color_trc", "dst_color_primaries"} for words in calls)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("x = float(frame.pts * time_base)", float_times),
        ("x = float(seconds)", float_times),
        ("x = index.pts[0] * 0.5", float_times),
        ("x = np.float64(packet.dts)", float_times),
        ("c = av.open(path)", unclosed_opens),
        ("for p in av.open(path).demux(): pass", unclosed_opens),
        ("c = open_media(path, 1)", unclosed_opens),
        ("def f(): return VideoFrame.from_ndarray(a, 'rgb24')", lambda s: arrays_without_colours(s, "x.py")),
    ],
)
def test_the_rules_find_what_they_should(source, rule):
    assert len(rule(source)) >= 1


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("x = f'{float(gap * time_base):.3f} s'", float_times),
        ("x = Fraction(pts) * time_base", float_times),
        ("x = float(width)", float_times),
        ("with av.open(a) as x, av.open(b, 'w') as y: pass", unclosed_opens),
        ("def f(): return av.open(path)", unclosed_opens),
    ],
)
def test_the_rules_leave_alone_what_is_right(source, rule):
    assert rule(source) == []
