"""The command line against a real server: what it prints, what it leaves to stderr, and its exit codes."""

import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from llmos.abi.api_types import Damage, model_of, process_json, process_of
from llmos.abi.call import MAX_INPUTS
from llmos.abi.cpu import AUTO, NAMES, NONE, PATHS, check, compiler, features
from llmos.abi.error import BadSetting, Fault, TooLong
from llmos.abi.process import Process, Progress, Spec, State
from llmos.cli import doctor
from llmos.cli.main import run_verb
from llmos.cli.processes import HEAD, rows
from llmos.cli.terminal import say_error
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving


@pytest.fixture
def kernel():
    return MemoryKernel(plays=True)


@pytest.fixture
def home(kernel, tmp_path, monkeypatch):
    """A home whose daemon.json names a served kernel."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serving(kernel, Config(tmp_path)) as url:
        (tmp_path / "daemon.json").write_text(json.dumps({"url": url, "os_pid": 0}))
        yield tmp_path


@pytest.fixture
def llmos(home, capfd):
    def run(*words):
        code = run_verb(list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_ls_lists_versions_with_their_headline(llmos):
    code, out, _ = llmos("ls")
    assert code == 0
    assert "ner:1" in out
    assert "f1 0.87" in out
    assert json.loads(llmos("ls", "--json")[1])[0]["ref"] == "minilm:1"
    assert "tickets@1" in llmos("ls", "--data")[1]


def test_show_carries_the_evidence_with_f1_first(llmos):
    shown = json.loads(llmos("show", "ner", "--json")[1])
    assert shown["capabilities"] == ["tag"]
    assert "\n  answers       embed, classify, rerank, similarity, zero_shot\n" in llmos("show", "minilm")[1]
    assert next(iter(shown["evidence"]["metrics"])) == "f1"
    assert shown["metrics"]["f1"] == 0.87
    code, out, _ = llmos("show", "ner")
    assert (code, "/v1/models/ner:1/report" in out) == (0, True)
    assert llmos("show", "ner", "--report")[1] == "/home/box/models/ner/1/report.html\n"
    code, out, err = llmos("show", "minilm", "--report")
    assert (code, out, "a base is evaluated as part of the models" in err) == (2, "", True)


def test_train_waits_and_says_what_came_of_it(llmos, home):
    (home / "rows.csv").write_text("text,label\nhi,a\n")
    code, out, err = llmos("train", "classify", "--data", "rows.csv", "--name", "mood", "--epochs", "1")
    assert (code, "mood:1 is promoted" in out, "llmos run mood" in out) == (0, True, True)
    assert "pid 1" in err


def test_train_without_waiting_prints_the_pid_alone(llmos, home, kernel):
    (home / "Mood Rows.csv").write_text("text,label\nhi,a\n")
    words = ("--set", "multi_label=true", "--set", "patience=2", "--lora-rank", "8", "--no-wait")
    code, out, err = llmos("train", "classify", "--data", "Mood Rows.csv", *words)
    assert (code, out, "llmos logs -f 1" in err) == (0, "1\n", True)
    args = kernel.processes.get(1).spec.args
    assert (args["name"], args["data"]["train"]) == ("mood-rows", str(home / "Mood Rows.csv"))
    assert (args["options"], args["patience"], args["lora"]["rank"]) == ({"multi_label": True}, 2, 8)


def test_train_has_the_flags_that_tasks_declare(kernel, llmos, home):
    (home / "rows.csv").write_text("text,label\na,b\n")
    flags = ("--multi-label", "--class-weights", "balanced", "--label-smoothing", "0.1")
    for _ in range(2):  # the flags are made once for a process
        code, _, _ = llmos("train", "classify", "--data", "rows.csv", "--no-wait", *flags)
        assert code == 0
    code, _, _ = llmos("train", "classify", "--data", "rows.csv", "--no-wait")
    assert code == 0
    *_, flagged, plain = (one.spec.args for one in kernel.processes.all())
    assert (flagged["options"], flagged["class_weights"]) == ({"multi_label": True}, "balanced")
    assert (plain["options"], plain["class_weights"]) == ({}, "none")
    code, out, _ = llmos("train", "--help")
    assert code == 0
    assert " ".join(out.split()).count("classify, tag, answer, rerank, similarity, generate, chat, summarize or") == 1


def test_the_help_of_run_says_how_tasks_take_several_texts(llmos):
    for _ in range(2):
        code, out, _ = llmos("run", "--help")
        assert code == 0
        assert " ".join(out.split()).count("Ask a model. answer: questions, then the passage. rerank: a query") == 1


def test_a_failed_training_is_its_sentence_and_exit_code(llmos, home, kernel):
    (home / "rows.csv").write_text("text,label\nhi\n")
    kernel.processes.fault = Fault("bad_row", "rows.csv, line 2: no label", {"line": 2})
    assert llmos("train", "classify", "--data", "rows.csv")[0] == 2
    code, out, err = llmos("train", "classify", "--data", "rows.csv", "--json")
    assert (code, out, json.loads(err)["error"]["code"]) == (2, "", "bad_row")
    kernel.processes.fault = Fault("no_room", "cpu0 has not the bytes")
    assert llmos("train", "classify", "--data", "rows.csv")[0] == 1


def test_run_prints_an_answer_per_text(llmos, home):
    assert llmos("run", "support", "where is it")[1].split()[0] in ("billing", "delivery")
    (home / "texts").write_text("one\n\ntwo\n")
    assert len(json.loads(llmos("run", "support", "--file", "texts", "--json")[1])) == 2
    assert "PER" in llmos("run", "ner", "Ada Grace Alan Edsger Barbara Donald")[1]
    assert "32 numbers" in llmos("run", "minilm", "hello")[1]
    assert llmos("run", "smollm2", "once", "--task", "generate", "--set", "max_tokens=2")[0] == 0


def test_documents_are_ranked_and_pairs_compared_from_the_command_line(llmos):
    out = llmos("run", "minilm", "hello", "bye", "hello", "--task", "rerank")[1]
    assert out.splitlines()[0] == " 1.000  hello"
    out = llmos("run", "minilm", "hello", "bye", "hello", "--task", "rerank", "--set", "top_n=1", "--json")[1]
    assert json.loads(out) == [{"ranking": [{"index": 1, "score": 1.0, "document": None}]}]
    assert llmos("run", "minilm", "a", "a", "--task", "similarity")[1] == "1.000\n"
    assert "b\n  1.000" in llmos("run", "minilm", "a", "c", "b", "b", "--task", "similarity")[1]


def test_a_base_chooses_among_labels_of_the_command_line(llmos):
    code, out, _ = llmos("run", "minilm", "where is it", "--labels", "billing, delivery")
    assert (code, out.split()[0] in ("billing", "delivery")) == (0, True)
    assert "labels of its own" in llmos("run", "support", "where is it", "--labels", "a,b")[2]


def test_a_passage_is_asked_from_the_command_line(llmos, home, kernel):
    kernel.teach("guide", "answer")
    out = llmos("run", "guide", "where is it?", "it is here, or there")[1]
    assert " [" in out or "does not say" in out
    (home / "guide.txt").write_text("Returns take\n14 days.\n")
    asked = llmos("run", "guide", "how long?", "and then?", "--file", "guide.txt", "--json")
    assert len(json.loads(asked[1])) == 2
    assert "needs questions and a passage" in llmos("run", "guide", "where is it?")[2]


def test_a_text_for_a_model_that_chats_is_one_message(llmos):
    code, out, _ = llmos("run", "smollm2", "hello", "--set", "max_tokens=3")
    assert (code, len(out.split())) == (0, 3)


def test_a_message_that_is_not_utf8_is_said_to_be(llmos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    code, out, err = llmos("chat", "smollm2")
    assert (code, out, "standard input is not UTF-8 at byte 3" in err) == (2, "", True)


def test_train_and_eval_say_where_to_compute(llmos, home, kernel):
    (home / "rows.csv").write_text("text,label\nhi,a\n")
    llmos("train", "classify", "--data", "rows.csv", "--device", "cuda0", "--no-wait")
    llmos("eval", "support", "--data", "rows.csv", "--device", "cuda1", "--no-wait")
    assert [kernel.processes.get(pid).spec.device for pid in (1, 2)] == ["cuda0", "cuda1"]


def test_the_daemon_is_started_with_absolute_folders(tmp_path, monkeypatch):
    from llmos.cli import daemon

    commands = []

    def execute(path, words):
        commands.append(words)
        raise SystemExit

    (tmp_path / "more.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOS_HOME", "box")
    monkeypatch.setattr(os, "execv", execute)
    with pytest.raises(SystemExit):
        daemon.up(None, None, "null", ["catalog=more.toml"], foreground=True)
    assert {f"--home={tmp_path}/box", f"--catalog={tmp_path}/more.toml"} <= set(commands[0])


def test_chat_prints_the_answer(llmos):
    code, out, _ = llmos("chat", "smollm2", "hello", "--max-tokens", "3", "--system", "Be brief")
    assert (code, len(out.split())) == (0, 3)
    assert llmos("chat", "smollm2", "hello", "--set", "max_tokens=3", "--system", "Be brief")[1] == out


def test_chat_sends_the_schema_in_a_file(llmos, home, kernel):
    (home / "city.json").write_text('{"type": "object"}')
    llmos("chat", "smollm2", "hello", "--json-schema", "city.json")
    assert kernel.calls.asked[-1].params == {"json_schema": {"type": "object"}}
    (home / "city.json").write_text("{type")
    for file, says in (("city.json", "is no JSON"), ("none.json", "cannot be read")):
        code, _, err = llmos("chat", "smollm2", "hello", "--json-schema", file)
        assert (code, says in err) == (2, True)


def test_a_file_of_more_lines_than_one_call_may_have_is_asked_in_several(llmos, home):
    (home / "many").write_text("hello\n" * (MAX_INPUTS + 1))
    code, out = llmos("run", "support", "--file", str(home / "many"), "--json")[:2]
    assert (code, len(json.loads(out))) == (0, MAX_INPUTS + 1)
    (home / "half").write_text("hello\n" * (MAX_INPUTS // 2 + 1))
    code, out = llmos(
        "run", "smollm2", "--file", str(home / "half"), "--set", "n=2", "--set", "max_tokens=1", "--json"
    )[:2]
    assert (code, len(json.loads(out))) == (0, MAX_INPUTS + 2)


class Picky:
    """An engine that takes no text that says bad."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def add(self, call):
        for index, one in enumerate(call.inputs):
            if "bad" in str(one):
                raise TooLong("The text has 9 tokens; the model takes 8", size=9, limit=8, index=index)
        self._engine.add(call)


def test_a_text_of_a_file_that_is_refused_is_told_by_its_line(llmos, home, kernel):
    kernel.calls.engine = Picky(kernel.calls.engine)
    (home / "texts").write_bytes("one\r\n\r\n  \nseparated\u2028here\nbad\nlast\n".encode())
    code, _, err = llmos("run", "support", "first", "second", "--file", "texts")
    assert (code, "texts, line 5: The text has 9 tokens" in err, "inputs[" in err) == (2, True, False)
    (home / "many").write_text("\n" + "hello\n" * MAX_INPUTS + "bad\n")
    assert f"many, line {MAX_INPUTS + 2}: The text has" in llmos("run", "support", "--file", "many")[2]
    (home / "pairs").write_text("a\nb\n\nc\nbad\n")
    err = llmos("run", "minilm", "--task", "similarity", "--file", "pairs")[2]
    assert "pairs, line 4 and pairs, line 5: The text has" in err
    err = llmos("run", "support", "fine", "bad")[2]
    assert "inputs[1]: The text has" in err


def test_run_prints_each_of_several_answers(llmos):
    out = llmos("run", "smollm2", "once", "twice", "--task", "generate", "--set", "n=2", "--set", "max_tokens=2")[1]
    assert [line for line in out.splitlines() if not line.startswith(" ")] == ["once", "once", "twice", "twice"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "nobody", "x"], 2, "llmos pull nobody"),
        (["run", "ner"], 2, "There is no text"),
        (["run", "ner", "x", "--task", "classify"], 2, "does tag"),
        (["run", "minilm", "x", "--task", "rerank"], 2, "a query and documents"),
        (["run", "minilm", "x", "y", "z", "--task", "similarity"], 2, "in pairs"),
        (["run", "ner", "--file", "none.txt"], 2, "cannot be read"),
        (["train", "classify", "--data", "none.csv"], 2, "No file"),
        (["train", "classify", "--data", "daemon.json", "--set", "epoch=1"], 2, "Near: epochs"),
        (["train", "classify", "--data", "daemon.json", "--set", "zzz=1"], 2, "There are: abstain, activation"),
        (["train", "classify", "--data", "daemon.json", "--set", "epochs"], 2, "key=value"),
        (["nice", "9", "urgent"], 2, "urgent"),
        (["kill", "9"], 2, "No process 9"),
        (["kill", "nine"], 2, "PID"),
        (["rm", "minilm"], 1, "stand on"),
        (["rollback", "ner"], 1, "llmos promote"),
        (["dance"], 2, "dance"),
        (["up", "--port", "99999999"], 2, "65535"),
        (["up", "--set", "dtype=int3"], 2, "bfloat16"),
        (["up", "--set", "prot=1"], 2, "prot = 1: there is no such setting; expected port"),
        (["up", "--set", "max_waiting_calls=abc"], 2, "--set max_waiting_calls = 'abc': expected a whole number"),
        (["nice", "1", "urgent"], 2, "priority is one of interactive, batch, background"),
        (["chat", "smollm2", "hi", "--set", "n=2"], 2, "llmos run smollm2 TEXT --set n=2"),
        (["run", "ner", "x", "--class", "urgent"], 2, "priority is one of interactive, batch, background"),
        (["run", "ner", "x", "--timeout", "-1"], 2, "timeout_s"),
        (["run", "ner", "caf\udce9"], 2, "is not UTF-8"),
        (["run", "support", "x", "--set", "treshold=1"], 2, "no param 'treshold'. It has: threshold"),
        (["run", "ner", "x", "--set", "treshold=1"], 2, "no param 'treshold'. It has: parse_special"),
    ],
)
def test_a_mistake_is_a_sentence_and_no_traceback(llmos, words, code, says):
    got, out, err = llmos(*words)
    assert (got, says in err, "Traceback" in err) == (code, True, False), err
    assert out == ""


def test_a_setting_of_the_wrong_kind_is_said_with_what_it_must_be(llmos, home):
    (home / "rows.csv").write_text("text,label\nhi,a\n")
    code, _, err = llmos("train", "classify", "--data", "rows.csv", "--set", "epochs=abc")
    assert (code, err) == (2, "epochs is 'abc'; it must be a number\n")


def test_a_call_carries_its_time_and_its_class_from_the_command_line(llmos, kernel):
    assert llmos("run", "ner", "Ada", "--timeout", "9", "--class", "batch")[0] == 0
    assert kernel.calls.asked[-1].priority == "batch"
    assert llmos("chat", "smollm2", "Hello", "--timeout", "9", "--class", "background")[0] == 0
    assert kernel.calls.asked[-1].priority == "background"


def test_the_daemon_of_another_home_on_the_same_port_is_told_from_ones_own(llmos, home, monkeypatch):
    url = json.loads((home / "daemon.json").read_text())["url"]
    (home / "daemon.json").unlink()
    monkeypatch.setenv("LLMOS_PORT", url.rpartition(":")[2])
    code, out, err = llmos("status")
    assert (code, "home /home/box" in out) == (0, True)
    assert f"This is the daemon of /home/box; that of {home} is not up" in err
    code, out, _ = llmos("down")
    assert (code, f"No daemon is up. The one at {url} is that of /home/box" in out) == (0, True)


def test_a_process_that_serves_shows_how_busy_it_is_and_nothing_once_it_is_over():
    figures = {"live": 3.0, "waiting": 2.0, "kv_blocks": 40.0, "kv_held": 10.0, "prefix_hit_rate": 0.324}
    serve = Process(1, Spec("serve"), State.READY, progress=Progress("serving", figures=figures))
    without_blocks = replace(serve, progress=Progress("serving", figures={"live": 3.0, "waiting": 0.0}))
    encoder = replace(serve, progress=Progress("serving"))
    over = replace(serve, state=State.EXITED)
    shown = [row[HEAD.index("PROGRESS")] for row in rows([serve, without_blocks, encoder, over])]
    assert shown == ["3 live, 2 wait, kv 25%, 32% found", "3 live", "", ""]


def test_a_trainer_shows_its_method_and_that_the_rule_chose_it():
    named = Process(1, Spec("train", {"method": "full"}))
    open_ = Process(2, Spec("train", {"method": "auto"}))
    chosen = Process(3, Spec("train", {"method": "lora", "method_why": "auto: lora, because ..."}))
    shown = [row[HEAD.index("METHOD")] for row in rows([named, open_, chosen, Process(4, Spec("pull"))])]
    assert shown == ["full", "auto", "lora (auto)", ""]


def test_a_serve_process_shows_how_many_models_are_mixed_and_how_many_alone(kernel):
    views = {one.manifest.ref: model_of(one) for one in kernel.models.all()}
    served = [views["support:1"], views["support:2"], views["ner:1"], views["smollm2:1"]]
    serve = [Process(1, Spec("serve", {"base": base}), State.READY) for base in ("minilm:1", "smollm2:1")]
    shown = [row[HEAD.index("METHOD")] for row in rows([*serve, replace(serve[0], state=State.EXITED)], served)]
    assert shown == ["1 mixed, 2 alone", "", ""]


def test_a_process_that_does_not_respond_is_shown_to_be_so_and_since_when():
    serve = Process(1, Spec("serve"), State.READY, unresponsive_since=time.time() - 12)
    assert rows([serve])[0][2] == "ready, not responding for 12s"
    assert process_of(process_json(serve)) == serve


def test_a_version_is_shown_without_what_only_the_store_needs(llmos, kernel):
    lineage = {"rows": 9, "pid": 4, "offer": 1, "born": 1795564244.4}
    kernel.models.manifests["ner:1"] = replace(kernel.models.manifests["ner:1"], lineage=lineage)
    shown = llmos("show", "ner")[1]
    assert ("process 4" in shown, "born" in shown, "offer" in shown) == (True, False, False)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"against": "bfloat16", "bfloat16": 0.9, "int8": 0.88}, "int8: accuracy 0.88, in bfloat16 0.9, on 36 rows"),
        ({"float32": 0.9, "int8": 0.88}, "int8: accuracy 0.88, in float32 0.9, on 36 rows"),  # as it was once written
    ],
)
def test_a_version_in_int8_shows_what_it_costs_against_what_and_what_it_saves(llmos, kernel, said, shown):
    here = {"dtype": "bfloat16", "float_bytes": 45_100_000, "int8_bytes": 34_500_000, "speeds": {"1": 1.5, "16": 0.913}}
    cost = {"dtype": "int8", "measure": "accuracy", "measured_on": 36, **said}
    saved = "int8 saves    34.5 MB for 45.1 MB in bfloat16; products 1.50 for 1, 0.91 for 16 tokens at once, times as"
    for told, is_said in ((here, saved), ({**here, "is_whole": False}, saved.replace("34", "at most 34")), (None, "")):
        evidence = {"metrics": {"accuracy": 0.88}, "quantized": cost | ({"here": told} if told else {})}
        kernel.models.manifests["ner:1"] = replace(kernel.models.manifests["ner:1"], dtype="int8", evidence=evidence)
        found = llmos("show", "ner")[1]
        assert shown in found
        assert ("int8 saves" in found) == bool(told)
        assert is_said in found


@pytest.mark.parametrize("name", NAMES)
def test_doctor_names_the_path_of_the_loops_or_says_what_is_lacking_for_it(tmp_path, name):
    found = doctor.check_kernels(Config(tmp_path, cpu_kernels=name))
    if (path := next((path for path in PATHS if path.name == name), None)) and not features().issuperset(path.needs):
        assert not found.is_well
        assert found.found.startswith(f"cpu_kernels is '{name}', and this processor (")
        assert found.hint.startswith("Leave the setting at auto, which is ")
    elif compiler() is not None or name in (AUTO, NONE):
        path = check(name)
        assert found.is_well
        assert found.found.startswith("none: torch" if path is None or compiler() is None else f"{path.name} (")


def test_doctor_reads_every_byte_where_it_is_asked_to(home, kernel):
    assert doctor.check_store(Config(home)).is_well
    kernel.models.damages = (Damage("ner:1", "adapter.safetensors", "it is damaged on the disk"),)
    found = doctor.check_store(Config(home))
    assert (found.is_well, found.found) == (False, "ner:1: it is damaged on the disk")


def test_doctor_says_whose_the_port_is(home, tmp_path, monkeypatch):
    found = doctor.check_daemon(Config(home))
    assert (found.is_well, found.found.endswith("but it is that of /home/box")) == (False, True)
    page = HTTPServer(("127.0.0.1", 0), _Page)
    Thread(target=page.handle_request, daemon=True).start()
    (home / "daemon.json").unlink()
    monkeypatch.setenv("LLMOS_PORT", str(page.server_port))
    found = doctor.check_daemon(Config(home, port=page.server_port))
    page.server_close()
    assert (found.found, found.hint.partition(".")[0]) == (
        f"not up; port {page.server_port} is in use",
        f"Another program has port {page.server_port}",
    )


class _Page(BaseHTTPRequestHandler):
    """A program that is no daemon."""

    def do_GET(self):
        body = b"<html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_without_a_daemon_the_exit_code_is_3(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.setenv("LLMOS_PORT", "9")
    assert run_verb(["ls"]) == 3
    assert "llmos up" in capfd.readouterr().err
    assert run_verb(["down"]) == 0


def test_processes_are_listed_moved_and_ended(llmos, kernel):
    kernel.processes.plays = False
    assert llmos("pull", "minilm", "--no-wait")[1] == "1\n"
    assert "queued" in llmos("ps")[1]
    assert json.loads(llmos("nice", "1", "background", "--json")[1])["spec"]["class"] == "background"
    assert "exited 143" in llmos("kill", "1")[1]
    assert "pull" not in llmos("ps")[1]
    assert "pull" in llmos("ps", "--all")[1]
    assert llmos("logs", "1", "-n", "1")[1] == "pid 1 line 3\n"
    assert llmos("logs", "-f", "1")[1].count("\n") == 3
    assert llmos("logs", "-f", "-n", "2", "1")[1] == "pid 1 line 2\npid 1 line 3\n"
    assert json.loads(llmos("logs", "1", "-n", "1", "--json")[1]) == {"pid": 1, "lines": ["pid 1 line 3"]}
    assert llmos("logs", "-f", "-n", "1", "--json", "1")[1] == '{"line":"pid 1 line 3"}\n'
    assert "PROGRAM" in llmos("top")[1]
    code, _, err = llmos("leaderboard", "1")
    assert (code, "runs pull, no search" in err) == (2, True)


def test_pull_eval_and_the_store(llmos, home):
    (home / "rows.csv").write_text("text,label\nhi,a\n")
    assert llmos("pull", "minilm")[0] == 0
    assert llmos("eval", "support", "--data", "rows.csv")[0] == 0
    assert llmos("promote", "support:1")[1] == "support now means support:1.\n"
    assert llmos("rollback", "support")[1] == "support now means support:2.\n"
    assert "support (the default), margin 0\n" in llmos("gate", "support")[1]
    changed = llmos("gate", "support", "--require", "better", "--require", "accuracy.low>=0.9", "--margin", "0.01")[1]
    assert "support, margin 0.01\n" in changed
    assert "accuracy.low>=0.9" in changed
    assert json.loads(llmos("gate", "support", "--reset", "--json")[1])["is_default"]
    assert llmos("gate", "support", "--reset", "--margin", "0.1")[0] == 2
    assert "support:1" in llmos("rm", "support", "tickets@1")[1]
    assert "blobs" in llmos("df")[1]
    assert llmos("gc")[1] == "Freed 4.1 KB.\n"
    assert "cpu0" in llmos("status")[1]


def test_what_was_removed_before_an_error_is_said(llmos):
    code, out, err = llmos("data", "rm", "tickets@1", "none@1", "--json")
    assert (code, json.loads(out), json.loads(err)["error"]["code"]) == (
        2,
        {"removed": ["tickets@1"]},
        "dataset_not_found",
    )
    code, out, _ = llmos("rm", "support:1", "none@1")
    assert (code, "Removed support:1" in out) == (2, True)


def test_logprobs_are_in_an_answers_json_only_where_asked_for(llmos):
    words = ("run", "smollm2", "hi", "--task", "generate", "--set", "max_tokens=2", "--json")
    assert set(json.loads(llmos(*words)[1])[0]) == {"text", "finish_reason"}
    assert json.loads(llmos(*words, "--set", "logprobs=true")[1])[0]["logprobs"]


def test_what_is_in_int8_already_is_said_without_figures_that_there_are_none_of(llmos):
    assert llmos("quantize", "minilm:1")[1] == "minilm:1 is served in int8 already\n"


def test_a_smaller_base_is_made_and_what_it_takes_is_said(llmos):
    assert llmos("shrink", "minilm", "--layers", "3")[1] == "a smaller minilm is ready\n"
    code, out, _ = llmos(
        "shrink", "minilm", "--static", "--dimensions", "64", "--neighbours", "2", "--name", "s", "--json"
    )
    assert code == 0
    spec = json.loads(out)["spec"]
    assert spec["args"] == {"base": "minilm", "static": True, "dimensions": 64, "neighbours": 2, "name": "s"}


def test_a_base_is_adapted_and_every_option_reaches_its_arguments(llmos, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one text\nanother text\n")
    assert llmos("adapt", "minilm", "--data", str(texts))[1] == "minilm has read its texts\n"
    words = (
        "--objective",
        "contrastive",
        "--matryoshka",
        "8,16",
        "--epochs",
        "2",
        "--set",
        "texts=50",
        "--name",
        "near",
    )
    code, out, _ = llmos("adapt", "minilm", "--data", str(texts), "--general", str(texts), *words, "--json")
    assert code == 0
    args = json.loads(out)["spec"]["args"]
    assert args["data"]["train"] == args["general"] == str(texts)
    assert (args["objective"], args["matryoshka"], args["epochs"]) == ("contrastive", "8,16", 2)
    assert (args["texts"], args["name"]) == (50, "near")


def test_the_command_line_also_runs_as_a_module():
    command = [sys.executable, "-m", "llmos.cli.main", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("llmos ")


def test_a_refused_setting_is_named_by_the_option_that_gave_it(capfd):
    error = BadSetting("augment_copies is 99; it must be less", key="augment_copies", value=99)
    assert say_error(error, as_json=False, words=["train", "--augment-copies=99"]) == 2
    assert capfd.readouterr().err.startswith("--augment-copies is 99")
    say_error(error, as_json=False, words=["train", "--set", "augment_copies=99"])
    assert capfd.readouterr().err.startswith("augment_copies is 99")


def test_help_and_version(llmos):
    assert llmos("--version")[1].startswith("llmos ")
    assert "train" in llmos("--help")[1]


def test_a_folder_that_is_no_home_is_left_as_it_was(tmp_path, monkeypatch, capfd):
    tmp_path.chmod(0o1777)
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    assert run_verb(["up", "--engine", "null"]) == 2
    assert "LLMOS_HOME=" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
