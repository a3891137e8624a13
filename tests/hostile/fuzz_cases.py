"""How hypothesis makes hostile input: bytes of good files changed at random places, and values of any kind."""

from typing import Any

from hypothesis import strategies as st

WORDS = ["data", "student", "teacher", "distill", "train", "format", "shapes", "detector", "retinanet", "method", "lr"]

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
YAML_SIGNS = st.text(alphabet="ab:-,[]{}&*!?|>'\"#%@` \n\t0129.~<=x_", max_size=60)


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """The file with some bytes exchanged, a piece cut out, a piece repeated, or its end missing."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        if not content:
            break
        place = draw(st.integers(0, len(content) - 1))
        length = draw(st.integers(1, 24))
        match draw(st.sampled_from(["exchange", "exchange", "cut", "repeat", "end"])):
            case "exchange":
                content[place : place + length] = draw(st.binary(min_size=1, max_size=length))
            case "cut":
                del content[place : place + length]
            case "repeat":
                content[place:place] = content[place : place + length] * draw(st.integers(1, 8))
            case _:
                del content[place:]
    return bytes(content)


@st.composite
def recipes(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """A good recipe with some values, at any depth, exchanged for anything."""
    content: dict[str, Any] = {name: dict(section) for name, section in good.items()}
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(list(content)))
        if not isinstance(content[section], dict) or draw(st.integers(0, 5)) == 0:
            content[section] = draw(VALUES)
        else:
            key = draw(st.sampled_from([*content[section], "zzz"]))
            content[section] = {**content[section], key: draw(VALUES)}
    return content
