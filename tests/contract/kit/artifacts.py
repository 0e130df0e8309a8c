"""The conformance kit: promises about artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.errors import ArtifactCorrupt, NotFound, StoreRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ArtifactRef
from tests.contract.kit.base import (
    RACERS,
    OpenStore,
    StoreFixtures,
    race,
)

HOSTILE_PATHS = (
    "",
    ".",
    "..",
    "/etc/passwd",
    "a//b",
    "a/",
    "/a",
    "../a",
    "a/../../b",
    "a/./b",
    "a\0b",
    "a\\b",
    "..\\a",
    "C:/a",
    "C:a",
    "a/ü",
    "a/b\n",
    "a/.hidden",
    "~/a",
)
HOSTILE_BUCKETS = ("", "..", "/", "a/b", "A", "a_b", "a.b", "ä", "a\n")


class ArtifactStoreContract(StoreFixtures):
    """Artifacts."""

    BUCKET = "ml-models"

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A file worth keeping."""
        path = tmp_path / "model.bin"
        path.write_bytes(bytes(range(256)) * 9000)
        return path

    def test_bytes_come_back_as_they_were(self, store: Store, source: Path, tmp_path: Path) -> None:
        ref = store.put(self.BUCKET, "football/m-1/model.skops", source)
        assert (ref.bucket, ref.path) == (self.BUCKET, "football/m-1/model.skops")
        assert ref.size == source.stat().st_size
        target = tmp_path / "new folder" / "copy.bin"
        assert store.fetch(ref, target) == target
        assert target.read_bytes() == source.read_bytes()

    def test_the_digest_is_sha256_in_hex(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "abc").write_bytes(b"abc")
        ref = store.put(self.BUCKET, "a/abc", tmp_path / "abc")
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert (ref.digest, ref.size) == (f"sha256:{digest}", 3)

    def test_an_empty_file_is_an_artifact(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        ref = store.put(self.BUCKET, "a/empty", tmp_path / "empty")
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == b""

    def test_the_same_bytes_again_change_nothing(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        first = store.put(self.BUCKET, "a/b", source)
        assert store.put(self.BUCKET, "a/b", source) == first
        assert store.fetch(first, tmp_path / "copy").read_bytes() == source.read_bytes()

    def test_other_bytes_under_a_known_path_are_refused(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        ref = store.put(self.BUCKET, "a/b", source)
        (tmp_path / "other").write_bytes(b"other")
        with pytest.raises(StoreRefused, match="a/b"):
            store.put(self.BUCKET, "a/b", tmp_path / "other")
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == source.read_bytes()

    def test_the_same_path_in_another_bucket_is_another_artifact(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "other").write_bytes(b"other")
        store.put(self.BUCKET, "a/b", source)
        ref = store.put("model-artifacts", "a/b", tmp_path / "other")
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == b"other"

    def test_of_racing_writers_exactly_one_wins(
        self, open_store: OpenStore, store: Store, tmp_path: Path
    ) -> None:
        for number in range(RACERS):
            (tmp_path / f"bytes-{number}").write_bytes(b"%d" % number * 300_000)
        got = race(
            open_store,
            lambda handle, number: handle.put(self.BUCKET, "a/b", tmp_path / f"bytes-{number}"),
        )
        winners = [item for item in got if isinstance(item, ArtifactRef)]
        assert len(winners) == 1
        assert sum(isinstance(item, StoreRefused) for item in got) == RACERS - 1
        copy = store.fetch(winners[0], tmp_path / "copy")
        assert copy.read_bytes() == b"%d" % got.index(winners[0]) * 300_000

    def test_racing_writers_of_the_same_bytes_all_succeed(
        self, open_store: OpenStore, source: Path
    ) -> None:
        got = race(open_store, lambda handle, _: handle.put(self.BUCKET, "a/b", source))
        assert got == [got[0]] * RACERS
        assert isinstance(got[0], ArtifactRef)

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=repr)
    def test_hostile_paths_are_refused(
        self, store: Store, source: Path, tmp_path: Path, path: str
    ) -> None:
        with pytest.raises(StoreRefused):
            store.put(self.BUCKET, path, source)
        ref = ArtifactRef(bucket=self.BUCKET, path=path, digest="sha256:" + "0" * 64, size=1)
        with pytest.raises(StoreRefused):
            store.fetch(ref, tmp_path / "copy")
        with pytest.raises(StoreRefused):
            store.url(ref)
        assert not (tmp_path / "copy").exists()

    @pytest.mark.parametrize("bucket", HOSTILE_BUCKETS, ids=repr)
    def test_hostile_buckets_are_refused(self, store: Store, source: Path, bucket: str) -> None:
        with pytest.raises(StoreRefused):
            store.put(bucket, "a/b", source)

    @pytest.mark.parametrize("change", [{"digest": "sha256:" + "0" * 64}, {"size": 1}])
    def test_bytes_that_differ_from_their_row_never_reach_the_target(
        self, store: Store, source: Path, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        ref = replace(store.put(self.BUCKET, "a/b", source), **change)
        folder = tmp_path / "target"
        folder.mkdir()
        with pytest.raises(ArtifactCorrupt, match="a/b") as caught:
            store.fetch(ref, folder / "copy")
        assert ref.digest in str(caught.value)
        assert list(folder.iterdir()) == []

    def test_a_failed_fetch_leaves_an_older_file_alone(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "copy"
        target.write_bytes(b"older")
        ref = replace(store.put(self.BUCKET, "a/b", source), digest="sha256:" + "0" * 64)
        with pytest.raises(ArtifactCorrupt):
            store.fetch(ref, target)
        assert target.read_bytes() == b"older"

    def test_an_object_can_be_had_without_knowing_its_digest(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        store.put(self.BUCKET, "evaluation_log.csv", source)
        copy = store.download(self.BUCKET, "evaluation_log.csv", tmp_path / "log" / "copy.csv")
        assert copy.read_bytes() == source.read_bytes()
        with pytest.raises(NotFound):
            store.download(self.BUCKET, "no.csv", tmp_path / "none.csv")
        assert not (tmp_path / "none.csv").exists()

    def test_unknown_artifacts_are_not_found(self, store: Store, tmp_path: Path) -> None:
        ref = ArtifactRef(bucket=self.BUCKET, path="a/b", digest="sha256:" + "0" * 64, size=1)
        with pytest.raises(NotFound):
            store.fetch(ref, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_the_url_names_the_artifact(self, store: Store, source: Path) -> None:
        url = store.url(store.put(self.BUCKET, "logs/run-1.txt", source))
        assert "://" in url
        assert "logs/run-1.txt" in url

    def test_a_folder_is_listed_and_what_is_removed_is_gone(
        self, store: Store, source: Path, tmp_path: Path
    ) -> None:
        assert store.names(self.BUCKET, "football") == []
        for path in ("football/m-2/model.skops", "football/m-1/model.skops", "football/m-1/x"):
            ref = store.put(self.BUCKET, path, source)
        assert store.names(self.BUCKET, "football") == ["m-1", "m-2"]
        assert store.names(self.BUCKET, "football/m-1") == ["model.skops", "x"]
        for _ in range(2):
            store.remove(self.BUCKET, "football/m-1/x")
        assert store.names(self.BUCKET, "football/m-1") == ["model.skops"]
        with pytest.raises(NotFound):
            store.fetch(ref, tmp_path / "copy")
        store.remove(self.BUCKET, "football/m-1/model.skops")
        assert store.names(self.BUCKET, "football") == ["m-2"]
        with pytest.raises(StoreRefused):
            store.remove(self.BUCKET, "../m-2")
