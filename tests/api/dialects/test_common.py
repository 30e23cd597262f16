"""JSON to arrays: nested lists of numbers become an array, anything else is an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.dialects.common import ink, numbers
from app.errors import InvalidParameter

NUMBERS = st.integers() | st.floats(allow_nan=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def leaves(value: object) -> list[object]:
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@settings(deadline=None)
@given(ANYTHING)
def test_an_array_holds_the_numbers_of_its_lists(value: object) -> None:
    array = numbers(value)

    if array is not None:
        assert array.dtype == np.float64
        assert array.ravel().tolist() == [float(str(leaf)) for leaf in leaves(value)]
        assert array.shape[:1] == (len(value),) if isinstance(value, list) else array.shape == ()


@pytest.mark.parametrize(
    "value",
    [None, "7", True, {}, [[1, 2], [3]], [1, [2]], ["1"], [None], [False], [{}], [10**400]],
    ids=["null", "string", "true", "object", "ragged", "mixed", "strings", "nulls", "falses", "objects", "huge"],
)
def test_anything_else_is_no_array(value: object) -> None:
    assert numbers(value) is None


def test_lists_nested_deeper_than_an_array_can_be_are_no_array() -> None:
    value: object = 1.0
    for _ in range(190):
        value = [value]

    assert numbers(value) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e39, -0.001, 1.001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_outside_of_ink_names_the_image(wrong: float, dtype: type[np.floating]) -> None:
    values = np.zeros(784, np.float64)
    values[5] = wrong
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)

    with pytest.raises(InvalidParameter, match=r"images\[3\]"):
        ink(cast, 3)
