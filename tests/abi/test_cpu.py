"""Which instructions loops may use: what a setting means on a processor, and what is said where it cannot be had."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.cpu import AUTO, NAMES, NATIVE, NONE, PATHS, check, choose_path, features
from llmos.abi.error import BadSetting
from llmos.testing.errors import fails_with

FLAGS = sorted({flag for path in PATHS for flag in path.needs})
EPYC = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"}


@given(st.sets(st.sampled_from(FLAGS)), st.sampled_from(NAMES))
def test_a_path_is_chosen_only_where_the_processor_has_all_of_it(has, setting):
    needs = next((set(path.needs) for path in PATHS if path.name == setting), set())
    if not needs <= has:
        with fails_with(BadSetting, key="cpu_kernels") as refused:
            choose_path(setting, has, "x86_64")
        assert set(refused.value.detail["lacks"]) == needs - has
    else:
        path = choose_path(setting, has, "x86_64")
        assert path is None if setting == NONE else set(path.needs) <= has


@pytest.mark.parametrize(
    ("has", "name"),
    [
        ({"sse2"}, "baseline"),
        ({"avx2"}, "baseline"),
        ({"avx2", "fma", "f16c"}, "avx2"),
        ({"avx2", "fma", "f16c", "avx_vnni"}, "avx_vnni"),
        (EPYC - {"avx512_vnni", "avx512_bf16"}, "avx512"),
        (EPYC - {"avx512_bf16"}, "avx512_vnni"),
        (EPYC, "avx512_bf16"),
    ],
)
def test_auto_is_the_widest_that_the_processor_has(has, name):
    assert choose_path(AUTO, has, "x86_64").name == name


def test_a_compiler_is_told_no_instruction_that_the_path_does_not_need():
    for path in PATHS:
        told = {flag[2:] for flag in path.flags if flag.startswith("-m") and not flag.startswith("-mtune")}
        assert told <= {need.replace("_", "") for need in path.needs}
        assert "-march=native" not in path.flags


def test_loops_of_another_path_are_of_one_that_needs_no_more():
    by_name = {path.name: path for path in PATHS}
    for path in PATHS:
        if path.loops:
            assert set(by_name[path.loops].needs) <= set(path.needs)
            assert by_name[path.loops].flags == path.flags


@pytest.mark.parametrize(("machine", "has"), [("aarch64", {"asimd", "bf16"}), ("x86_64", set())])
def test_where_x86_s_flags_are_not_known_the_compiler_asks_the_processor(machine, has):
    assert choose_path(AUTO, has, machine).name == NATIVE
    assert choose_path("baseline", has, machine).name == "baseline"
    with fails_with(BadSetting, key="cpu_kernels", value="avx2", lacks=...):
        choose_path("avx2", has, machine)


def test_features_are_those_of_the_first_processor_named(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("model name\t: One\nflags\t\t: fpu avx2\n\nmodel name\t: Two\nflags\t\t: fpu\n")
    assert features(told) == {"fpu", "avx2"}
    assert features(tmp_path / "none") == frozenset()


def test_a_path_that_no_compiler_can_make_is_refused_and_auto_is_not():
    has = set(FLAGS)
    with fails_with(BadSetting, key="cpu_kernels", value="avx2", compiler=None):
        check("avx2", has, "x86_64", ("no-such-compiler",))
    assert check(AUTO, has, "x86_64", ("no-such-compiler",)).name == "avx512_bf16"
    assert check(NONE, has, "x86_64", ("no-such-compiler",)) is None


@pytest.mark.skipif(shutil.which("sh") is None, reason="a compiler is played by a shell script")
def test_a_compiler_too_old_for_a_path_is_refused_with_its_own_words(tmp_path):
    old = tmp_path / "old-cc"
    old.write_text("#!/bin/sh\necho 'error: unrecognized option -mavx512vnni' >&2\nexit 1\n")
    old.chmod(0o755)
    with fails_with(BadSetting, key="cpu_kernels", compiler=str(old), reason="error: unrecognized option -mavx512vnni"):
        check("avx512_vnni", EPYC, "x86_64", (str(old),))
