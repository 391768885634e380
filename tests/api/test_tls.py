"""TLS by files: what cannot serve is refused with a reason, and a change of the files drops no connection."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from llmos.abi.error import BadSetting
from llmos.api.tls import Certificate
from tests.certificates import write_certificate

MINE, OTHER = "mine.example", "other.example"


@pytest.fixture
def files(tmp_path):
    return write_certificate(tmp_path / "tls", MINE)


def refused(cert, key):
    with pytest.raises(BadSetting) as raised:
        Certificate(cert, key)
    return raised.value.detail["key"], raised.value.message


def test_a_certificate_and_its_key_are_taken(files):
    assert Certificate(*files).pem == files[0].read_text()


def test_a_chain_is_taken_and_its_first_certificate_is_the_own(files, tmp_path):
    other, _ = write_certificate(tmp_path / "other", OTHER)
    own = files[0].read_text()
    files[0].write_text(own + other.read_text())
    assert Certificate(*files).pem == own


def test_a_key_of_another_certificate_is_refused_with_a_sentence_that_says_so(files, tmp_path):
    _, key = write_certificate(tmp_path / "other", OTHER)
    name, sentence = refused(files[0], key)
    assert name == "tls_cert"
    assert "is not that of the certificate" in sentence


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_key_that_others_can_read_is_refused(files, mode):
    files[1].chmod(mode)
    assert refused(*files)[0] == "tls_key"


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_no_certificate_is_refused(files, content):
    files[0].write_bytes(content)
    assert refused(*files)[0] == "tls_cert"


def test_a_missing_file_is_refused(files, tmp_path):
    assert refused(tmp_path / "none.pem", files[1])[0] == "tls_cert"
    assert refused(files[0], tmp_path / "none.pem")[0] == "tls_key"


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path):
    assert refused(*write_certificate(tmp_path, MINE, password=b"secret"))[0] == "tls_cert"


def replace_by(files, folder):
    for old, new in zip(files, write_certificate(folder, OTHER), strict=True):
        new.replace(old)


def test_new_files_are_read_once_they_stand_still(files, tmp_path):
    certificate = Certificate(*files)
    assert not certificate.look()
    replace_by(files, tmp_path / "new")
    assert [certificate.look() for _ in range(3)] == [False, True, False]
    assert certificate.pem == files[0].read_text()


def test_a_bad_new_file_is_said_once_and_the_old_one_stays(files, tmp_path, caplog):
    certificate, before = Certificate(*files), files[0].read_text()
    files[0].write_text("no certificate")
    assert not any(certificate.look() for _ in range(4))
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert certificate.pem == before
    replace_by(files, tmp_path / "new")
    assert any(certificate.look() for _ in range(2))


def test_an_open_connection_outlives_a_change_and_new_ones_have_the_new_certificate(files, tmp_path):
    """Over real sockets: what a client of each certificate trusts."""

    async def play():
        certificate = Certificate(*files)
        old, address = certificate.pem, []

        async def echo(reader, writer):
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate.context)
        address = server.sockets[0].getsockname()[:2]

        async def connect(pem):
            context = ssl.create_default_context(cadata=pem)
            return await asyncio.open_connection(*address, ssl=context)

        reader, writer = await connect(old)
        replace_by(files, tmp_path / "new")
        certificate.look()
        assert certificate.look()
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(old)
        _, other = await connect(certificate.pem)
        for one in (writer, other):
            one.close()
            await one.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(play())
