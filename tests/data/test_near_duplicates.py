"""The search for near duplicates finds what comparing all pairs finds, in any data."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.data.near_duplicates import has_near_duplicate, near_duplicate_groups, share_of_near_duplicates
from alexnet.data.perceptual_hash import DISTANCE, distinct_perceptual_hashes

ALL_ONES = 2**64 - 1


def is_near(one: list[int], other: list[int]) -> bool:
    """Of Python's integers: the bits that differ, as they are or mirrored, which inverts the second half."""
    if one == [0, 0] or other == [0, 0]:
        return False
    first, second = bin(one[0] ^ other[0]).count("1"), bin(one[1] ^ other[1]).count("1")
    return first + min(second, 64 - second) <= DISTANCE


def planted(seed: int, originals: int, copies: int) -> np.ndarray:
    """Random hashes and copies of them with 0 to 20 flipped bits, some mirrored, some blank: uint64 [N, 2]."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (originals, 2), np.uint64)
    copied = hashes[rng.integers(0, originals, copies)]
    for row in copied:
        for bit in rng.choice(128, rng.integers(0, 21), replace=False):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
        if rng.random() < 0.3:
            row[1] ^= np.uint64(ALL_ONES)
    return rng.permutation(np.concatenate([hashes, copied, np.zeros((2, 2), np.uint64)]))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 30), st.integers(0, 40))
def test_the_search_finds_what_comparing_all_pairs_finds(seed: int, originals: int, copies: int, queries: int):
    hashes = planted(seed, originals, copies)
    asked, known = hashes[:queries], hashes[queries:]
    expected = [any(is_near(one, other) for other in known.tolist()) for one in asked.tolist()]
    assert has_near_duplicate(asked, known).tolist() == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 30))
def test_groups_are_connected_by_pairs(seed: int, originals: int, copies: int):
    hashes = planted(seed, originals, copies)
    lowest = list(range(len(hashes)))
    pairs = [(one, other) for one in lowest for other in range(one)
             if is_near(hashes[one].tolist(), hashes[other].tolist())]
    for _ in lowest:
        for one, other in pairs:
            lowest[one] = lowest[other] = min(lowest[one], lowest[other])
    assert near_duplicate_groups(hashes).tolist() == lowest


def test_the_limit_is_13_bits_wherever_they_are():
    known = np.array([[0x0123456789ABCDEF, 0x0F1E2D3C4B5A6978]], np.uint64)
    for flipped, expected in (((0x1FFF, 0), True), ((0x3FFF, 0), False), ((0, 0x1FFF << 51), True),
                              ((0x7F, 0x3F << 40), True), ((0x7F, 0x7F << 40), False),
                              ((0x1FFF, ALL_ONES), True), ((0x3FFF, ALL_ONES), False)):
        assert has_near_duplicate(known ^ np.array(flipped, np.uint64), known).tolist() == [expected], flipped


def test_planted_copies_are_found_among_100_000_images():
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, (100_000, 2), np.uint64)
    hashes[99_950:] = hashes[:50] ^ np.array([0b1_1111_1111, 0b1111 << 60], np.uint64)
    groups = near_duplicate_groups(hashes)
    np.testing.assert_array_equal(np.flatnonzero(groups != np.arange(100_000)), np.arange(99_950, 100_000))
    np.testing.assert_array_equal(groups[99_950:], np.arange(50))


def test_the_share_counts_images_with_another_one_like_them():
    rng = np.random.default_rng(4)
    hashes = rng.integers(1, 2**63, (40, 2), np.uint64)
    hashes[30:] = hashes[:10] ^ np.uint64(1)
    assert share_of_near_duplicates(distinct_perceptual_hashes(hashes)) == 0.5
    assert share_of_near_duplicates(distinct_perceptual_hashes(hashes[:30], hashes[:30])) == 0
    assert share_of_near_duplicates(distinct_perceptual_hashes()) == 0


def test_no_images_have_no_near_duplicates():
    none, some = np.empty((0, 2), np.uint64), np.array([[1, 2]], np.uint64)
    assert has_near_duplicate(none, some).tolist() == []
    assert has_near_duplicate(some, none).tolist() == [False]
    assert near_duplicate_groups(none).tolist() == []
