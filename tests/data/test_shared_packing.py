"""A pack that several ranks share has the bytes of one process's pack, also after it was interrupted in any of them."""

import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from test_packing import BAD, SHARD, TRAIN, VAL, contents, drawn, failing, pack_drawn

from alexnet.data.packed import PackedDataset
from alexnet.errors import UserError


class Meeting:
    """Where the threads that stand for processes exchange what they have; one that fails ends the waiting of all."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.given = size, threading.Barrier(size), [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.given[rank] = value
        self.barrier.wait(60)
        all_given = [*self.given]
        self.barrier.wait(60)
        return all_given


class ThreadRank:
    """A rank that is a thread."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size, self.meeting = rank, meeting.size, meeting

    def in_order(self, own: Iterator[Any], parts: int) -> Iterator[Any]:
        for _ in range(0, parts, self.size):
            results = self.meeting.exchange(self.rank, next(own, None))
            if not self.rank:
                yield from (result for result in results if result is not None)

    def from_rank0(self, make: Callable[[], Any]) -> Any:
        return self.meeting.exchange(self.rank, None if self.rank else make())[0]

    def local_rank0_first(self, make: Callable[[], Any]) -> Any:
        return make()

    def require_same_on_all_ranks(self, trees: object) -> None:
        first, *others = self.meeting.exchange(self.rank, trees)
        assert all(other == first for other in others)


def pack_shared(size: int, dest: Path | list[Path], **options: Any) -> list[PackedDataset]:
    """Pack in so many threads. Raises the first error that is none of waiting for another thread.

    Args:
        dest: of all ranks, or of each.
        options: as for `pack_drawn`, without `workers`; `on_progress` is that of rank 0.
    """
    meeting = Meeting(size)

    def pack(rank: int) -> PackedDataset:
        own = options | ({"on_progress": None} if rank else {})
        try:
            return pack_drawn(dest[rank] if isinstance(dest, list) else dest, drawn(failing(*BAD)), workers=2,
                              ranks=ThreadRank(rank, meeting), **own)
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(pack, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception())]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [future.result() for future in futures]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A function of the codec: the files of one process's pack."""
    folder = tmp_path_factory.mktemp("alone")
    return lambda codec: contents(pack_drawn(folder / codec, drawn(failing(*BAD)), codec=codec).path)


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("size", [2, 3, 9])
def test_ranks_write_the_bytes_of_one_process(tmp_path: Path, alone, size: int, codec: str):
    """There are seven shards, so two of nine ranks have none."""
    packs = pack_shared(size, tmp_path / "data", codec=codec)
    assert contents(tmp_path / "data") == alone(codec)
    assert {pack.fingerprint for pack in packs} == {packs[0].fingerprint}


def test_each_image_is_read_once_and_progress_ends_at_all_images(tmp_path: Path):
    read: list[str] = []
    seen: list[int] = []
    meeting = Meeting(2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda rank: pack_drawn(
            tmp_path / "data", drawn(read.append), ranks=ThreadRank(rank, meeting),
            on_progress=None if rank else lambda done, total: seen.append(done)), range(2)))
    assert sorted(read) == sorted(image.name for source in drawn().splits.values() for image in source)
    assert seen == sorted(set(seen))
    assert (seen[0], seen[-1]) == (2, TRAIN + VAL)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 3), (3, 2)])
def test_an_interrupted_pack_is_resumed_by_any_number_of_ranks(tmp_path: Path, alone, first: int, then: int):
    def stop(done: int, total: int) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_shared(first, tmp_path / "data", on_progress=stop)
    assert not (tmp_path / "data" / "manifest.json").exists()
    assert (tmp_path / "data" / "train-00001.npy").exists()
    pack_shared(then, tmp_path / "data")
    assert contents(tmp_path / "data") == alone("raw")


def test_a_folder_that_another_host_does_not_have_or_that_is_another_one_there_is_named(tmp_path: Path):
    remedy = "choose a DEST on a disk that all hosts share"
    with pytest.raises(UserError, match=rf"^process 1 has no .*mine, into which process 0 packs; {remedy}$"):
        pack_shared(2, [tmp_path / "here", tmp_path / "mine"])
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=rf"^another process has written train-00001\.npy, which is not in .*here of "
                       rf"process 0; {remedy}$"):
        pack_shared(2, [tmp_path / "here", tmp_path / "there"])


def test_jpeg_members_are_numbered_by_the_order_of_the_split(tmp_path: Path):
    """The number does not depend on how many images of earlier shards are broken, which another rank knows."""
    pack_shared(2, tmp_path / "data", codec="jpeg")
    with tarfile.open(tmp_path / "data" / "train-00001.tar") as tar:
        assert tar.getnames()[:2] == [f"{SHARD:09}.jpg", f"{SHARD:09}.cls"]
