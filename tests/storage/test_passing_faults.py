"""Faults that pass, of real servers behind a proxy: nobody notices them."""

from __future__ import annotations

import hashlib
import io
import random
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from boto3.s3.transfer import S3Transfer

from job.errors import ObjectMissing, WriteConflict
from support.faults import faulty, object_read

RATES = {"internal_error": 0.02, "unavailable": 0.02, "slow_down": 0.01, "truncated": 0.02, "reset": 0.02}
DELAYS = {"late": 0.02, "dribbled": 0.02}


def test_hundreds_of_requests_through_a_bad_network_end_with_the_right_bytes(
    behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    content = {f"dir {i % 7}/ü+{i}%20": random.Random(i).randbytes(1 + 37 * i) for i in range(200)}

    def exercise(key: str) -> None:
        if key.endswith("5%20"):
            (tmp_path / f"{hash(key)}.up").write_bytes(content[key])
            version = store.upload(key, str(tmp_path / f"{hash(key)}.up"))
            store.download(key, str(tmp_path / f"{hash(key)}.down"))
            assert _sha256((tmp_path / f"{hash(key)}.down").read_bytes()) == _sha256(content[key])
        else:
            version = store.write(key, content[key])
        info = store.stat(key)
        assert info is not None
        assert (info.size, info.version) == (len(content[key]), version)
        assert _sha256(store.read(key, version)) == _sha256(content[key])

    with behind(seed=3, pause=0.3, **RATES, **DELAYS) as (store, proxy), ThreadPoolExecutor(8) as pool:
        list(pool.map(exercise, content))
        for prefix in ("", "dir 3/", "dir 5/ü+1"):
            listed = {info.key: info.size for info in store.list(prefix)}
            expected = {key: len(value) for key, value in content.items() if key.startswith(prefix)}
            assert {key: size for key, size in listed.items() if key != "key"} == expected
        list(pool.map(store.delete, content))
        assert [info.key for info in store.list()] == ["key"]
        for _ in range(1000):
            if all(proxy.counts[kind] for kind in (*RATES, *DELAYS)):
                break
            assert len(store.read("key")) == 102_400
        assert set(proxy.counts) == {*RATES, *DELAYS}
        assert len(proxy.asked) > 800


def test_a_large_file_goes_up_and_down_through_a_bad_network(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "up").write_bytes(random.Random(0).randbytes(17 << 20))  # three parts
    with s3_behind(seed=2, **dict.fromkeys((*RATES, "lost"), 0.04)) as (store, proxy):
        for _ in range(2):
            store.upload("large", str(tmp_path / "up"))
            store.download("large", str(tmp_path / "down"))
            assert _sha256((tmp_path / "down").read_bytes()) == _sha256((tmp_path / "up").read_bytes())
            assert _sha256(store.read("large")) == _sha256((tmp_path / "up").read_bytes())
        assert proxy.counts.total() > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down", "up"]


def test_an_upload_whose_last_answer_is_lost_is_made_again(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "up").write_bytes(random.Random(0).randbytes(9 << 20))
    with s3_behind(only=lambda method, target: method == "POST" and "uploadId=" in target) as (store, proxy):
        proxy.next.append("lost")
        version = store.upload("large", str(tmp_path / "up"))
        assert proxy.counts == {"lost": 1}
        assert _sha256(store.read("large", version)) == _sha256((tmp_path / "up").read_bytes())


def test_arrow_reads_parquet_through_a_bad_network(behind: Callable[..., Any], pauses: list[float]) -> None:
    table = pa.table({"key": [f"k{i}" for i in range(20_000)], "size": range(20_000)})
    pq.write_table(table, buffer := io.BytesIO(), row_group_size=5000)
    with behind(pause=0.2) as (store, proxy):
        store.write("table.parquet", buffer.getvalue())
        filesystem, root = store.arrow()
        proxy.only = object_read
        for faults in (["truncated", "reset"], ["internal_error", "dribbled"], ["slow_down", "late"], ["truncated"]):
            proxy.next.extend(faults)
            assert pq.read_table(f"{root}/table.parquet", filesystem=filesystem).equals(table)
            assert not proxy.next
        assert {"truncated", "reset", "internal_error", "slow_down", "late", "dribbled"} == set(proxy.counts)


def test_what_arrow_reads_is_of_one_version(behind: Callable[..., Any]) -> None:
    with behind() as (store, _):
        filesystem, root = store.arrow()
        with filesystem.open_input_file(f"{root}/key") as file:
            assert file.read(10) == bytes(range(10))
            store.write("key", b"another" * 20_000)
            with pytest.raises(ObjectMissing, match="key"):
                file.read(10)


def test_a_conditional_write_whose_answer_is_lost_is_a_conflict(
    behind: Callable[..., Any], pauses: list[float]
) -> None:
    with behind(only=lambda method, _: method in ("PUT", "POST")) as (store, proxy):
        for version, content in ((None, b"first"), ("its version", b"second")):
            proxy.next.append("lost")
            with pytest.raises(WriteConflict, match=r"current\.json"):
                store.write_if_unchanged("current.json", content, version and store.stat("current.json").version)
            assert store.read("current.json") == content
        assert proxy.counts == {"lost": 2}


@pytest.mark.parametrize("verb", ["read", "download"])
def test_a_body_that_arrives_changed_is_asked_for_again(
    behind: Callable[..., Any], get: Callable[..., bytes], verb: str, pauses: list[float]
) -> None:
    with behind(only=object_read) as (store, proxy):
        proxy.next.extend(["flipped", "truncated", "flipped+truncated"])
        assert get(store, verb) == bytes(range(256)) * 400
        assert proxy.counts == {"flipped": 2, "truncated": 2}


def test_an_outage_is_outlasted_by_many_threads_of_one_client(
    s3_behind: Callable[..., Any], pauses: list[float]
) -> None:
    asked: Counter[str] = Counter()

    def first_five(_: str, target: str) -> bool:
        asked[target] += 1
        return asked[target] <= 5

    with s3_behind(only=first_five, unavailable=1.0) as (store, proxy), ThreadPoolExecutor(24) as pool:
        assert list(pool.map(store.stat, map(str, range(24)))) == [None] * 24
        assert proxy.counts["unavailable"] == 24 * 5


def test_a_file_that_is_overwritten_during_its_download_is_downloaded_again(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"1" * (9 << 20))
    (tmp_path / "two").write_bytes(b"2" * (9 << 20))
    with s3_behind() as (store, _):
        store.upload("large", str(tmp_path / "one"))
        head = store._client.head_object

        def head_then_overwrite(**kwargs: str) -> object:
            answer = head(**kwargs)
            if heads.pop(0):
                S3Transfer(store._client).upload_file(str(tmp_path / "two"), kwargs["Bucket"], kwargs["Key"])
            return answer

        heads = [False, True, False, False]  # its own, and that of the transfer
        monkeypatch.setattr(store._client, "head_object", head_then_overwrite)
        store.download("large", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == b"2" * (9 << 20)


def test_the_proxy_passes_a_request_on_byte_for_byte() -> None:
    head = b"PUT /bucket/%C3%BC+a%2520b//c?x=%2F&If=1 HTTP/1.1\r\nHost: elsewhere:1\r\nIf-None-Match: *\r\n"
    body = (
        b"Transfer-Encoding: chunked\r\n\r\n3;chunk-signature=0\r\na\r\n\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(2):
                    got = b""
                    while not got.endswith(b"==\r\n\r\n"):
                        got += connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

        predictions = pool.submit(echo)
        with faulty(f"http://127.0.0.1:{server.getsockname()[1]}") as proxy:
            with socket.create_connection(proxy.url.removeprefix("http://").split(":")) as client:
                for _ in range(2):  # on one connection
                    client.sendall(head + b"Expect: 100-continue\r\n" + body)
                    got = b""
                    while not got.endswith(b"==\r\n\r\n"):
                        got += client.recv(1 << 16)
                    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
                    assert got.endswith(b"\r\n\r\n" + head + body)
            predictions.result(10)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
