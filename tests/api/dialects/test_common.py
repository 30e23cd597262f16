"""JSON to arrays: nested lists of numbers become an array, anything else is an error."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.dialects.common import numbers

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
