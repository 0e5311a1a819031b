"""Parquet files that would take gigabytes or hours: refused by their page headers, rows and labels, before reading."""

import json
from pathlib import Path

import pytest

from alexnet.data.sources import parquet, parquet_pages
from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.parquet_pages import PAGE_BYTES, rows_at_a_time
from image_files import jpeg, per_class

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 300


def write(path: Path, images: object, labels: list[object], **options: object) -> Path:
    """A file of the columns image {bytes} and label."""
    if not isinstance(images, pa.Array):
        images = pa.array([{"bytes": each} for each in images], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": images, "label": labels}), path, **options)
    return path


@pytest.mark.parametrize("options", [
    {"compression": "none"}, {"compression": "snappy", "data_page_size": 2000, "row_group_size": 90},
    {"compression": "gzip", "data_page_version": "2.0"}, {"compression": "zstd", "use_dictionary": False},
    {"compression": "lz4", "write_statistics": False}, {"compression": "brotli", "data_page_size": 500},
    {"write_page_index": True, "write_page_checksum": True}], ids=str)
def test_the_headers_of_all_pages_are_found(options, tmp_path: Path):
    """The metadata of an honest file state the sum of its pages and of their headers, which the walk must meet."""
    images = [jpeg(number % 250) + bytes(number) for number in range(ROWS)]
    path = write(tmp_path / "x.parquet", images, ["ash" if number % 3 else "birch" for number in range(ROWS)],
                 **options)
    metadata = pq.ParquetFile(path).metadata
    data = path.read_bytes()
    for column in ("image.bytes", "label"):
        stated = sum(metadata.row_group(group).column(number).total_uncompressed_size
                     for group in range(metadata.num_row_groups) for number in range(metadata.num_columns)
                     if metadata.schema.column(number).path == column)
        found = compressed = 0
        chunks = [metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)
                  for number in range(metadata.num_columns) if metadata.schema.column(number).path == column]
        for chunk in chunks:
            begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            compressed += chunk.total_compressed_size
            end = begin + chunk.total_compressed_size
            while begin < end:
                page = parquet_pages._page(data, begin)
                head = parquet_pages._skip_struct(data, begin, 0, fields := {}) - begin
                assert page.end == begin + head + fields[3]
                found, begin = found + head + page.bytes, page.end
            assert begin == end
        assert found == stated
    assert rows_at_a_time(path, metadata, ["image.bytes", "label"], 64) == 64
    dataset = open_dataset(path, held_out=0)
    assert per_class(dataset, "train") == [200, 100]
    assert {image.content() for image in dataset.splits["train"]} == set(images)


def test_a_page_of_two_gigabytes_in_a_file_of_some_kilobytes_is_refused(tmp_path: Path):
    path = write(tmp_path / "x.parquet", [bytes(140_000_000)], ["ash"], compression="zstd", use_dictionary=False,
                 write_statistics=False)  # whose header states its size in five bytes, as the largest one
    data = path.read_bytes()
    assert len(data) < 100_000
    size = parquet_pages._page(data, 4).bytes
    assert 140_000_000 < size < 140_000_100
    path.write_bytes(data.replace(zigzag(size), zigzag(2**31 - 1), 1))
    with pytest.raises(ValueError, match=rf"x\.parquet has a page of 2,147,483,647 bytes, more than {PAGE_BYTES:,}; "):
        open_dataset(path, held_out=0)


def zigzag(number: int) -> bytes:
    """A number as Thrift's compact protocol has it."""
    number *= 2
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def test_large_values_are_read_a_few_rows_at_a_time(tmp_path: Path):
    """A dictionary may repeat one in every row: 64 rows of 140 MB are 9 GB."""
    path = write(tmp_path / "x.parquet", [bytes(140_000_000)] * 2, ["ash", "birch"], compression="zstd",
                 dictionary_pagesize_limit=2**30)
    file = pq.ParquetFile(path)
    assert file.metadata.row_group(0).column(0).total_uncompressed_size < 150_000_000
    assert rows_at_a_time(path, file.metadata, ["image.bytes"], 64) == 3
    assert rows_at_a_time(path, file.metadata, ["label"], 64) == 64


def test_images_that_a_dictionary_repeats_do_not_fill_the_disk(tmp_path: Path, cache: Path,
                                                               monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    path = write(tmp_path / "x.parquet", [bytes(100_000)] * 500, ["ash", "birch"] * 250)
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match="have more than 100 times the size of their files, as no images do"):
        open_dataset(path, held_out=0)
    assert not list(cache.rglob("*.tar"))


def test_millions_of_rows_without_an_image_are_refused(tmp_path: Path):
    path = write(tmp_path / "x.parquet", pa.nulls(2_000_000, pa.struct([("bytes", pa.binary())])), [0] * 2_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"x\.parquet states 2,000,000 rows in [\d,]+ bytes, as no file with images"):
        open_dataset(path, held_out=0)


@pytest.mark.parametrize(("content", "problem"), [
    (b"\xff", r"at byte 4 there is no header of a page"), (b"\x1c" * 12, "at byte 4 there is no header of a page"),
    (b"\x15" + b"\xff" * 11, "at byte 4 there is no header of a page"), (b"\0", "at byte 4 there is no header")])
def test_a_damaged_header_of_a_page_is_named(content, problem, tmp_path: Path):
    path = write(tmp_path / "x.parquet", [jpeg(1), jpeg(2)], ["ash", "birch"], use_dictionary=False)
    data = path.read_bytes()
    path.write_bytes(data[:4] + content + data[4 + len(content):])
    with pytest.raises(ValueError, match=rf"x\.parquet is damaged: {problem}"):
        open_dataset(path, held_out=0)


@pytest.mark.parametrize(("labels", "problem"), [
    (["a" * 5000, "b"], r"has a label of 5,000 characters, more than 1,000"),
    ([[1, 2], [3]], r"has lists or structs as labels \(column label\); a label must be a number or a text")])
def test_labels_that_are_no_names_are_refused(labels, problem, tmp_path: Path):
    with pytest.raises(ValueError, match=problem):
        open_dataset(write(tmp_path / "x.parquet", [jpeg(1), jpeg(2)], labels), held_out=0)


def test_an_image_larger_than_a_file_may_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "BYTE_LIMIT", 1000)
    path = write(tmp_path / "x.parquet", [jpeg(1) + bytes(2000), jpeg(2)], ["ash", "birch"])
    with pytest.raises(ValueError, match=r"has an image of 2,\d\d\d bytes, more than 1,000; leave it out"):
        open_dataset(path, held_out=0)


def test_a_column_that_is_only_called_images_is_refused(tmp_path: Path):
    table = pa.table({"image": [[1, 2], [3]], "label": [0, 1]}).replace_schema_metadata({"huggingface": json.dumps(
        {"info": {"features": {"image": {"_type": "Image"}}}})})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="describes the column image as images, and it holds list<"):
        open_dataset(tmp_path / "x.parquet", held_out=0)


def test_fields_of_the_struct_that_are_no_image_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = pa.array([{"bytes": jpeg(number), "path": None, "more": list(range(5000))} for number in (1, 2)],
                      pa.struct([("bytes", pa.binary()), ("path", pa.string()), ("more", pa.list_(pa.int32()))]))
    path = write(tmp_path / "x.parquet", images, ["ash", "birch"])
    monkeypatch.setattr(parquet_pages, "PAGE_BYTES", 5000)  # that of `more` is larger
    assert per_class(open_dataset(path, held_out=0), "train") == [1, 1]
