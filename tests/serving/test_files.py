import os
from pathlib import Path

import pytest

from wissel.serving.files import Files


def mount(volume: Path, version: str, content: str) -> None:
    """As a kubelet does it: the files lie in a folder of their own, to which a link is swapped."""
    folder = volume / f"..{version}"
    folder.mkdir(parents=True)
    (folder / "key").write_text(content)
    (volume / "..data_tmp").symlink_to(folder.name)
    (volume / "..data_tmp").replace(volume / "..data")
    if not (volume / "key").is_symlink():
        (volume / "key").symlink_to("..data/key")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wissel.yaml"
    path.write_text(f"models: [{{name: m, cluster: c, credential: {{file: {tmp_path}/volume/key}}}}]\n")
    mount(tmp_path / "volume", "1", "old")
    return path


def test_files_that_stay_have_not_changed(config: Path):
    files = Files(config)
    config.with_name("volume").joinpath("key").resolve().touch()

    assert not files.have_changed()


def test_a_swapped_mount_is_a_change_and_one_only(config: Path):
    files = Files(config)
    mount(config.with_name("volume"), "2", "new")

    assert [files.have_changed(), files.have_changed()] == [True, False]


def test_a_secret_that_is_named_now_and_comes_later_is_seen_to_come(config: Path, tmp_path: Path):
    files = Files(config)
    config.write_text(f"models: [{{name: m, cluster: c, credential: {{file: {tmp_path}/late}}}}]\n")
    named = files.have_changed()
    (tmp_path / "late").write_text("here")

    assert (named, files.have_changed(), files.have_changed()) == (True, True, False)


def test_secrets_are_followed_while_the_document_is_no_yaml(config: Path):
    files = Files(config)
    config.write_text("models: [")
    files.have_changed()
    mount(config.with_name("volume"), "2", "new")

    assert files.have_changed()


def test_a_document_that_is_away_while_it_is_replaced_is_no_change(config: Path):
    files = Files(config)
    config.unlink()

    assert not files.have_changed()


def test_what_a_pipe_holds_is_left_for_who_needs_it(config: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    config.write_text(f"models: [{{name: m, cluster: c, credential: {{file: {tmp_path}/pipe}}}}]\n")

    assert not Files(config).have_changed()
