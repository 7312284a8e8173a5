import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.integers import Hashes, Integers

_SIGNED = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)
_UNSIGNED = st.lists(st.integers(0, 2**64 - 1), max_size=9)


@given(_SIGNED, st.integers(-10, 10), st.integers(-10, 10))
def test_integers_read_like_the_tuple_they_were_made_of(values, a, b):
    packed = Integers(values)
    assert packed == tuple(values)
    assert list(packed) == values
    assert len(packed) == len(values)
    assert packed[a:b] == values[a:b]
    assert hash(packed) == hash(tuple(values))


@given(_UNSIGNED)
def test_hashes_keep_all_64_bits_through_text_pickle_and_numpy(values):
    packed = Hashes(values)
    assert Hashes.from_text(packed.to_text()) == values
    assert pickle.loads(pickle.dumps(packed)) == packed
    assert Hashes(np.asarray(packed)) == values


def test_integers_cannot_be_changed_through_numpy_or_a_copy():
    packed = Integers([1, 2, 3])
    with pytest.raises(ValueError):
        np.asarray(packed)[0] = 7
    assert copy.deepcopy(packed) is packed
    assert Integers.of(packed) is packed


def test_a_value_of_more_than_64_bits_is_refused():
    with pytest.raises(OverflowError):
        Integers([2**63])
    with pytest.raises(OverflowError):
        Hashes([-1])


def test_text_that_holds_no_whole_integers_is_refused():
    with pytest.raises(ValueError):
        Integers.from_text("AAAA")


def test_integers_differ_from_others_of_another_length_or_value():
    assert Integers([1, 2]) != [1, 2, 3]
    assert Integers([1, 2]) != Integers([1, 3])
    assert Integers([1]) != "1"
