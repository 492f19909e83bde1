"""Data at URLs, through fsspec: in memory, in files and on a server.

Found again by their versions, never stale.
"""

import importlib
import io
import os
import sys

import pytest
from served import serving
from test_named_data import VALUES, expect_the_four, png, table, tar

from harness.base.errors import InputError
from harness.cli import main
from harness.data import decoding, load_images, remote
from harness.data.remote import remote_file

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A cache of its own, into which even small data go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STRESS_HARNESS_RUN", raising=False)
    monkeypatch.setattr(decoding, "SMALL", 0)
    monkeypatch.setattr(decoding, "_own_runs", set())
    remote._open_file.cache_clear()
    return tmp_path


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.fixture
def server():
    pytest.importorskip("aiohttp")
    with serving() as found:
        yield found


@pytest.fixture
def made(monkeypatch):
    """The positions of decoded pictures.

    The first of each data set is always read and left out.
    """
    seen, own = [], decoding.Decoder.decode
    monkeypatch.setattr(
        decoding.Decoder, "decode", lambda this, at: (seen.append(at), own(this, at))[1]
    )
    return seen


def shard(at, *, values=VALUES):
    """Return the bytes of a tar file with two pictures of the four, from `at` on."""
    names = [
        (number, png(values[number]), str([0, 1, 1, 0][number]).encode()) for number in (at, at + 1)
    ]
    return tar(
        {
            f"{number:03}.{kind}": each
            for number, *both in names
            for kind, each in zip(("png", "cls"), both, strict=True)
        }
    )


def parquet_file(values=VALUES):
    made = table(values=values)
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(made, file, row_group_size=3)
    return file.getvalue()


def put(files, at, here, memory, server):
    """Put files where a kind of URL reads them, and return how such a URL begins."""
    if at == "http":
        server.files.update(files)
        return server.url("")
    if at == "memory":
        for name, content in files.items():
            memory.pipe(f"/{name}", content)
        return "memory://"
    for name, content in files.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(content)
    return f"file://{here}/"


@pytest.mark.parametrize("at", ["memory", "file", "http"])
def test_files_at_a_url_are_read_in_order_and_another_version_anew(here, memory, request, at):
    server = request.getfixturevalue("server") if at == "http" else None
    files = {"x/test-0.tar": shard(0), "x/test-1.tar": shard(2), "x/shop.parquet": parquet_file()}
    begin = put(files, at, here, memory, server)
    images = load_images(f"webdataset:{begin}x/test-{{0..1}}.tar")
    expect_the_four(images, ("0", "1"))
    assert (images.name, images.notes) == ("test", ())
    for kind in ("hf", "parquet"):
        images = load_images(f"{kind}:{begin}x/shop.parquet")
        expect_the_four(images, ("ant", "bee"))
        assert images.name == "shop"
    values = (10, 20, 77, 40)
    changed = shard(2, values=values)
    assert len(changed) == len(files["x/test-1.tar"])
    put({"x/test-1.tar": changed, "x/shop.parquet": parquet_file(values)}, at, here, memory, server)
    expect_the_four(load_images(f"webdataset:{begin}x/test-{{0..1}}.tar"), ("0", "1"), values)
    expect_the_four(load_images(f"hf:{begin}x/shop.parquet"), ("ant", "bee"), values)


@pytest.mark.parametrize("end", ["", "/", "/*.parquet", "/test-*"])
def test_several_parquet_files_are_read_in_the_order_of_their_names(memory, end):
    memory.pipe("/shop/test-1.parquet", parquet_file())
    memory.pipe("/shop/test-0.parquet", parquet_file((1, 2, 3, 4)))
    images = load_images(f"hf:memory://shop{end}")
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2, 3, 4, *VALUES]
    assert images.name == "shop"


def test_what_has_been_read_is_not_read_again(server, made):
    server.files = {"test-0.tar": shard(0), "test-1.tar": shard(2)}
    spec = f"webdataset:{server.url('test-{0..1}.tar')}"
    first = load_images(spec)
    remote._open_file.cache_clear()
    made.clear()
    server.sent = 0
    again = load_images(spec)
    assert again.sha256 == first.sha256
    assert made == []
    assert server.sent <= len(shard(0)), "for the first picture alone, by which the size is known"


def test_without_a_version_pictures_are_decoded_in_each_run(server, made, monkeypatch):
    server.files, server.versions = {"test-0.tar": shard(0)}, False
    spec = f"webdataset:{server.url('test-0.tar')}"
    images = load_images(spec)
    assert (
        "test-0.tar is decoded again in each run, since its server gives no version"
        in images.notes[0]
    )
    remote._open_file.cache_clear()
    monkeypatch.delenv("STRESS_HARNESS_RUN")
    server.files = {"test-0.tar": shard(0, values=(50, 60, 0, 0))}
    assert load_images(spec).pixels[:, 0, 0, 0].tolist() == [50, 60]


def test_what_a_server_refuses_is_said(server):
    for status, said in ((403, "403 Forbidden"), (404, "404 Not Found"), (500, "500")):
        server.files, server.status = {"test-0.tar": shard(0)} if status != 404 else {}, status
        with pytest.raises(
            InputError, match=rf"test-0\.tar: cannot be read \(its server answers {said}"
        ):
            load_images(f"webdataset:{server.url('test-0.tar')}")


def test_what_opens_a_url_is_said_to_nobody(server, monkeypatch):
    server.files, server.versions = {"test-0.tar?signature=hunter2": shard(0)}, False
    spec = f"webdataset:{server.url('test-0.tar?signature=hunter2')}"
    images = load_images(spec)
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 20]
    assert images.name == "test-0"
    assert "test-0.tar?… is decoded again" in images.notes[0]
    server.status = 403
    monkeypatch.delenv("STRESS_HARNESS_RUN")
    with pytest.raises(
        InputError, match=r"test-0\.tar\?…: cannot be read \(its server answers 403"
    ) as told:
        load_images(spec)
    assert "hunter2" not in str(told.value)


def test_a_server_without_ranges_is_refused_early(server, monkeypatch):
    monkeypatch.setattr(remote, "_BLOCK", 1_024)
    server.files, server.ranges = {"test-0.tar": shard(0)}, False
    with pytest.raises(
        InputError, match=r"test-0\.tar: .*\(its server sends only whole files.*download it"
    ):
        load_images(f"webdataset:{server.url('test-0.tar')}")


WRONG = {
    "webdataset:memory://none.tar": r"memory://none\.tar: cannot be read \(no such file\)",
    "hf:memory://none.parquet": r"memory://none\.parquet: cannot be read \(no such file\)",
    "hf:memory://none": r"memory://none: has no file with a name that ends in \.parquet",
    "hf:memory://none/*.parquet": r"has no file with a name",
    "webdataset:memory://folder": r"memory://folder: is a folder, expected a file",
    "webdataset:memory://cut.tar": r"memory://cut\.tar: ",
    "webdataset:memory://odd.tar": r"memory://odd\.tar: 000\.png: cannot be read as an image",
    "webdataset:nowhere://x.tar": r"cannot be opened \(Protocol not known: nowhere.*such as s3, gs",
    "webdataset:simplecache::memory://x.tar": "is a chain of file systems; name the file itself",
    "folder:s3://bucket/x": "is at a URL, expected a path; hf, parquet, webdataset may be at one",
    "npz:https://host/x.npz": "is at a URL, expected a path",
}


def test_what_is_wrong_with_a_url_is_said(memory, monkeypatch):
    memory.pipe("/folder/x.tar", b"")
    memory.pipe("/cut.tar", shard(0)[:560])
    memory.pipe("/odd.tar", shard(0).replace(b"\x89PNG", b"\x00PNG"))
    for spec, message in WRONG.items():
        with pytest.raises(InputError, match=message):
            load_images(spec)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    memory.pipe("/test.tar", shard(0))
    monkeypatch.setattr(type(memory), "cat_file", refuse)
    with pytest.raises(
        InputError, match=r"test\.tar: cannot be read \(no permission: Permission denied\)"
    ):
        load_images("webdataset:memory://test.tar")
    monkeypatch.setattr(type(memory), "info", refuse)
    with pytest.raises(
        InputError, match=r"test\.tar: cannot be read \(no permission: Permission denied\)"
    ):
        load_images("webdataset:memory://test.tar")


@pytest.mark.parametrize(
    ("missing", "url", "command"),
    [
        ("s3fs", "s3://bucket/0.tar", r"needs a package that is not installed .*pip install s3fs"),
        ("gcsfs", "gs://bucket/0.tar", r"pip install gcsfs"),
        ("aiohttp", "https://host/0.tar", r"pip install 'stress-harness\[remote\]'"),
        ("paramiko", "sftp://host/0.tar", r"pip install 'fsspec\[sftp\]'"),
        ("fsspec", "s3://bucket/0.tar", r"needs fsspec, .* pip install 'stress-harness\[remote\]'"),
    ],
)
def test_a_package_that_is_not_installed_is_named(monkeypatch, missing, url, command):
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    known = {}
    monkeypatch.setattr(registry, "_registry", known)
    monkeypatch.setattr(registry, "registry", known)
    with pytest.raises(InputError, match=command):
        load_images(f"webdataset:{url}")


@pytest.mark.parametrize("blocks", [True, False])
def test_a_file_is_read_in_parts_as_it_is(memory, monkeypatch, blocks):
    monkeypatch.setattr(remote, "_BLOCK", 1_000)
    content = bytes(range(256)) * 40
    memory.pipe("/x", content)
    file = remote_file("memory://x").opened(blocks=blocks)
    assert file.read(10) == content[:10]
    file.seek(990)
    assert file.read(2_500) == content[990:3_490]
    file.seek(-7, os.SEEK_END)
    assert file.tell() == len(content) - 7
    assert file.read(100) == content[-7:]
    assert file.read(1) == b""


def test_facts_about_files_are_shown_and_emptied_with_the_cache(memory, capsys):
    memory.pipe("/test.tar", shard(0))
    load_images("webdataset:memory://test.tar")
    assert main(["cache"]) == 0
    assert "1 facts about files at URLs kept" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "1 facts about files at URLs deleted" in capsys.readouterr().out
    assert main(["cache"]) == 0
    assert "at URLs" not in capsys.readouterr().out
