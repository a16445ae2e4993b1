"""The Hub client against a Hub on loopback: resolve, lock, cache, drift and every refusal."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.files.hub_server import HubServer, hub_environment

from maple.errors import SourceError
from maple.files import Files, Hub, Lock

REPO = "org/data"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def online(server: HubServer, home: Path) -> Iterator[None]:
    with hub_environment(server.endpoint, home):
        yield


def _files(lock: Lock | None = None) -> Files:
    return Files(hub=Hub(lock))


def _find(files: Files, pattern: str = "*.jsonl", repo: str = REPO, **options: str) -> list[Path]:
    return files.find(local=["unused"], repo=repo, patterns=[pattern], **options)


def test_first_use_fetches_and_writes_the_lock(
    server: HubServer, online: None, tmp_path: Path
) -> None:
    commit = server.commit("datasets", REPO, {"data/b.jsonl": b"{}\n", "data/a.jsonl": b"[]\n"})
    paths = _find(_files(Lock(tmp_path / "maple.lock")))
    assert [p.name for p in paths] == ["a.jsonl", "b.jsonl"]
    assert [p.read_bytes() for p in paths] == [b"[]\n", b"{}\n"]
    assert json.loads((tmp_path / "maple.lock").read_text()) == {
        "format": 1,
        "datasets": {REPO: commit},
        "models": {},
    }


def test_locked_and_cached_data_is_used_offline_without_a_request(
    server: HubServer, home: Path, tmp_path: Path
) -> None:
    server.commit("datasets", REPO, {"data/a.jsonl": b"1"})
    lock = tmp_path / "maple.lock"
    with hub_environment(server.endpoint, home):
        fetched = _find(_files(Lock(lock)))
    server.requests.clear()
    with hub_environment("http://127.0.0.1:9", home, offline=True):
        assert _find(_files(Lock(lock))) == fetched
    assert server.requests == []


def test_locked_and_cached_data_makes_no_request_online_either(
    server: HubServer, online: None, tmp_path: Path
) -> None:
    server.commit("datasets", REPO, {"data/a.jsonl": b"1"})
    lock = Lock(tmp_path / "maple.lock")
    _find(_files(lock))
    server.requests.clear()
    _find(_files(lock))
    assert server.requests == []


def test_a_moved_branch_is_reported_and_the_locked_commit_still_used(
    server: HubServer, online: None, home: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "maple.lock"
    old = server.commit("datasets", REPO, {"a.jsonl": b"old"})
    hub = Hub(Lock(lock))
    assert hub.resolve("datasets", REPO) == old
    new = server.commit("datasets", REPO, {"a.jsonl": b"new"})
    hub = Hub(Lock(lock))
    [drift] = hub.drift()
    assert (drift.name, drift.locked, drift.current) == (REPO, old, new)
    assert old[:12] in drift.message
    assert new[:12] in drift.message
    [path] = hub.data_files(REPO, ["a.jsonl"])
    assert path.read_bytes() == b"old"
    assert Lock(lock).commit("datasets", REPO) == old


def test_nothing_drifts_while_the_hub_stands_still(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1"})
    server.commit("models", "org/model", {"model.safetensors": b"1"}, ref="v1")
    hub = Hub()
    hub.resolve("datasets", REPO)
    hub.resolve_model("org/model", "v1")
    assert hub.drift() == []


def test_a_repository_gone_from_the_hub_is_a_drift(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1"})
    hub = Hub()
    hub.resolve("datasets", REPO)
    server.repositories.clear()
    [drift] = hub.drift()
    assert drift.current is None
    assert "gone" in drift.message


def test_a_tag_has_its_own_lock_entry(server: HubServer, online: None) -> None:
    tagged = server.commit("datasets", REPO, {"a.jsonl": b"1"}, ref="v1")
    server.commit("datasets", REPO, {"a.jsonl": b"2"})
    lock = Lock()
    [path] = _find(_files(lock), revision="v1")
    assert path.read_bytes() == b"1"
    assert lock.entries() == [("datasets", f"{REPO}@v1", tagged)]


def test_a_commit_needs_no_lock_entry(server: HubServer, online: None) -> None:
    old = server.commit("datasets", REPO, {"a.jsonl": b"1"})
    server.commit("datasets", REPO, {"a.jsonl": b"2"})
    lock = Lock()
    [path] = _find(_files(lock), revision=old)
    assert path.read_bytes() == b"1"
    assert lock.entries() == []


def test_a_locked_commit_that_is_gone_is_an_error(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1"})
    lock = Lock()
    lock.record("datasets", REPO, "0" * 40)
    with pytest.raises(SourceError, match=r"no longer has.*delete its entry from maple\.lock"):
        _find(_files(lock))


def test_scripts_are_never_matched_and_the_listing_is_shown(
    server: HubServer, online: None
) -> None:
    server.commit("datasets", REPO, {"data.py": b"import os", "README.md": b"#"})
    with pytest.raises(SourceError, match=r"like \*\. It holds: README\.md, data\.py\."):
        _find(_files(), "*")
    assert not any("resolve" in path for _, path in server.requests)


def test_a_script_repository_is_read_from_its_parquet_branch(
    server: HubServer, home: Path, tmp_path: Path
) -> None:
    server.commit("datasets", REPO, {"data.py": b"import os"})
    converted = server.commit(
        "datasets", REPO, {"sw/test/0000.parquet": b"PAR1"}, ref="refs/convert/parquet"
    )
    lock = tmp_path / "maple.lock"
    with hub_environment(server.endpoint, home):
        files = _files(Lock(lock))
        [path] = _find(files, "sw/test/*.parquet")
    assert files.fingerprint([path]) == f"hub:{REPO}@{converted}"
    assert Lock(lock).commit("datasets", f"{REPO}@refs/convert/parquet") == converted
    with hub_environment("http://127.0.0.1:9", home, offline=True):
        assert _find(_files(Lock(lock)), "sw/test/*.parquet") == [path]


def test_a_parquet_branch_without_the_file_is_listed_too(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"data.py": b""})
    server.commit("datasets", REPO, {"en/0.parquet": b""}, ref="refs/convert/parquet")
    with pytest.raises(SourceError, match=r"Parquet branch holds: en/0\.parquet"):
        _find(_files(), "sw/*.parquet")


def test_the_first_pattern_that_matches_wins(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"x.json": b"1", "x.jsonl": b"2", "y.jsonl": b"3"})
    found = _files().find(local=[], repo=REPO, patterns=["z*", "?.jsonl", "x.json"])
    assert [p.name for p in found] == ["x.jsonl", "y.jsonl"]


def test_a_gated_repository_says_where_to_ask_and_how_to_log_in(
    server: HubServer, online: None
) -> None:
    server.commit("models", "org/gated", {"model.safetensors": b"1"}, is_gated=True)
    with pytest.raises(SourceError, match=r"accept the licence at .*/org/gated.*HF_TOKEN"):
        Hub().snapshot("org/gated")


def test_a_refused_token_is_never_printed(
    server: HubServer, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.commit("datasets", REPO, {"a.jsonl": b"1"}, is_gated=True)
    with pytest.raises(SourceError, match="your token has no access") as caught:
        _find(_files())
    assert "hf_secret" in server.tokens
    assert "hf_secret" not in str(caught.value)


def test_an_accepted_token_opens_the_gate(server: HubServer, online: None, home: Path) -> None:
    home.mkdir()
    (home / "token").write_text("hf_accepted\n")
    server.commit("datasets", REPO, {"a.jsonl": b"1"}, is_gated=True)
    assert _find(_files())[0].read_bytes() == b"1"


def test_a_repository_that_is_not_there_names_what_was_tried(
    server: HubServer, online: None
) -> None:
    with pytest.raises(SourceError, match=r"no dataset org/typo, or it is private"):
        _find(_files(), repo="org/typo")


def test_a_branch_that_is_not_there_is_named(server: HubServer, online: None) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1"})
    with pytest.raises(SourceError, match="no revision 'v9'"):
        _find(_files(), revision="v9")


def test_a_name_that_cannot_be_a_repository_is_named(server: HubServer, online: None) -> None:
    with pytest.raises(SourceError, match="'a/b/c' is not the name of a Hub repository"):
        Hub().resolve_model("a/b/c")


def test_no_network_fails_fast_and_says_what_to_do(home: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    with (
        hub_environment(f"http://name:secret@127.0.0.1:{port}", home),
        pytest.raises(
            SourceError, match=r"cannot reach the Hub .*maple fetch.*--data-dir"
        ) as caught,
    ):
        _find(_files())
    assert time.monotonic() - began < 5
    assert "secret" not in str(caught.value)


def test_no_network_fails_fast_with_a_lock_and_a_listing_too(server: HubServer, home: Path) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1", "b.jsonl": b"2"})
    lock = Lock()
    with hub_environment(server.endpoint, home):
        _find(_files(lock), "a.jsonl")
    began = time.monotonic()
    with hub_environment("http://127.0.0.1:9", home), pytest.raises(SourceError, match="cannot"):
        _find(_files(lock), "b.jsonl")
    assert time.monotonic() - began < 5


def test_offline_names_each_missing_file(server: HubServer, home: Path) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1", "b.jsonl": b"2"})
    lock = Lock()
    with hub_environment(server.endpoint, home):
        _find(_files(lock), "a.jsonl")
    with (
        hub_environment(server.endpoint, home, offline=True),
        pytest.raises(SourceError, match=r"b\.jsonl \(1 of 2\) not in the cache.*maple fetch"),
    ):
        _find(_files(lock))


def test_offline_with_nothing_cached_says_so(home: Path) -> None:
    with (
        hub_environment("http://127.0.0.1:9", home, offline=True),
        pytest.raises(SourceError, match=r"HF_HUB_OFFLINE is set"),
    ):
        _find(_files())


def test_offline_uses_what_another_tool_cached(server: HubServer, home: Path) -> None:
    from huggingface_hub import HfApi

    commit = server.commit("datasets", REPO, {"a.jsonl": b"1"})
    with hub_environment(server.endpoint, home):
        HfApi(endpoint=server.endpoint).hf_hub_download(
            REPO, "a.jsonl", repo_type="dataset", cache_dir=home / "hub"
        )
    with hub_environment(server.endpoint, home, offline=True):
        hub = Hub()
        assert hub.data_files(REPO, ["*.jsonl"])[0].read_bytes() == b"1"
        assert hub.resolve("datasets", REPO) == commit


def test_a_model_comes_without_pickles_and_vendor_copies(server: HubServer, online: None) -> None:
    wanted = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"]
    others = ["pytorch_model.bin", "consolidated.safetensors", "original/params.json", "run.py"]
    commit = server.commit("models", "org/model", dict.fromkeys(wanted + others, b"{}"))
    folder = Hub().snapshot("org/model")
    assert sorted(p.name for p in folder.iterdir()) == wanted
    assert folder.name == commit


def test_a_model_without_safetensors_is_refused(server: HubServer, online: None) -> None:
    server.commit("models", "org/old", {"pytorch_model.bin": b"1", "config.json": b"{}"})
    with pytest.raises(SourceError, match=r"no safetensors.*pytorch_model\.bin"):
        Hub().snapshot("org/old")


def test_an_endpoint_that_is_no_hub_is_named(server: HubServer, online: None) -> None:
    server.commit("models", "org/model", {"config.json": b"{}"})
    server.repositories["models", "org/model"].refs["main"] = "not-a-commit"
    server.repositories["models", "org/model"].commits["not-a-commit"] = {}
    with pytest.raises(SourceError, match="Check HF_ENDPOINT"):
        Hub().resolve_model("org/model")


def test_the_variables_count_in_a_process_of_its_own(server: HubServer, tmp_path: Path) -> None:
    server.commit("datasets", REPO, {"a.jsonl": b"1"})
    program = (
        "import sys; from pathlib import Path; from maple.files import Files, Hub, Lock\n"
        "files = Files(hub=Hub(Lock(Path(sys.argv[1]))))\n"
        f"[path] = files.find(local=[], repo={REPO!r}, patterns=['*.jsonl'])\n"
        "assert path.read_bytes() == b'1' and 'torch' not in sys.modules\n"
    )
    environment = {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path / "maple.lock")]
    online = environment | {"HF_ENDPOINT": server.endpoint}
    subprocess.run(command, env=online, check=True, timeout=60)
    offline = environment | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=offline, check=True, timeout=60)
