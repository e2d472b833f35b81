"""Positions in a TOML text: every key that tomllib finds has a line, and the right one."""

import tomllib
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from multiplexer.config.toml_lines import Path, find_lines

TEXT = '''\
# [no.table]
a = 1 # ] x
"b c".d = "x # ] \\" y"
'e"' = [ 1, # foo ]
  "two", [3,
   4], {k=1, l . m = '}'},
]
m = """
 "quotes" \\""" ""
"x"""""
n = \'\'\'it's
[here] \'\'\'
o = ""

[t.u]
x.y = 1979-05-27 07:32:00
x.z = { a = [ 1,
 2 ] }
[[arr]]
k=1
[arr.sub]
z=1
[[arr]]
k=2
[[arr.deep]]
q=inf
[[arr.deep]]
q=nan
em = []
ed = {}
[ t . "v" ]'''

LINES = {
    ("a",): 2,
    ("b c", "d"): 3,
    ('e"', 0): 4,
    ('e"', 1): 5,
    ('e"', 2, 1): 6,
    ('e"', 3, "l", "m"): 6,
    ("m",): 8,
    ("n",): 11,
    ("o",): 13,
    ("t", "u"): 15,
    ("t", "u", "x", "y"): 16,
    ("t", "u", "x", "z", "a", 1): 18,
    ("arr", 0, "sub", "z"): 22,
    ("arr", 1, "k"): 24,
    ("arr", 1, "deep", 0, "q"): 26,
    ("arr", 1, "deep", 1, "ed"): 30,
    ("t", "v"): 31,
}


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in what tomllib returned."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


def test_every_key_of_a_text_with_all_of_tomls_forms_has_its_line() -> None:
    lines = find_lines(TEXT)

    assert set(lines) == set(paths(tomllib.loads(TEXT)))
    assert {path: lines[path] for path in LINES} == LINES


def test_lines_are_counted_alike_where_they_end_in_cr_and_lf() -> None:
    assert find_lines(TEXT.replace("\n", "\r\n")) == find_lines(TEXT)


def test_a_text_without_keys_has_no_lines() -> None:
    assert find_lines("") == {}
    assert find_lines("\n # only this") == {}


KEYS = st.sampled_from(["a", "b-1", '"c d"', '"q\\"]"', "'#'"])
SCALARS = st.sampled_from(
    [
        *("1", "0x0F", "true", "inf", "1e5", "07:32:00", '"]"', '"#"', "'\\'", '"\\\\"', '""'),
        *('"""\n"x" # ] \\\n """', "'''\n]''''", '""""a"""', "''"),
    ]
)
SPACE = st.sampled_from(["", " ", "\n", " # ] } \" '\n", "\r\n\t"])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = [draw(SPACE) + value + draw(SPACE) for value in draw(st.lists(values, max_size=3))]
    end = draw(st.sampled_from(["", "," + draw(SPACE)])) if items else draw(SPACE)
    return "[" + ",".join(items) + end + "]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    return "{ " + ", ".join(f"{key}.x = {draw(values)}" for key in keys) + " }"


VALUES = st.recursive(SCALARS, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> str:
    text = ""
    for number in range(draw(st.integers(0, 3))):
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            text += f"{key} = {draw(VALUES)} # ]\n"
        header = draw(st.sampled_from(["[t{0}]", "[ t{0} . u ]", "[[arr.list]]", '[t{0}."]"]']))
        text += header.format(number) + draw(st.sampled_from(["\n", " # [x]\n"]))
    return text


@given(documents())
def test_whatever_tomllib_finds_has_a_line_that_has_its_key(text: str) -> None:
    lines = find_lines(text)

    assert set(lines) == set(paths(tomllib.loads(text)))
    for path, line in lines.items():
        if isinstance(path[-1], str):
            bare = path[-1].replace('"', '\\"')
            assert bare in text.split("\n")[line - 1]
