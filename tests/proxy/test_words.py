"""The command's words: each is judged before it reaches a file, and a wrong one is answered with a right one."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pusher.cli import app
from pusher.proxy.plan import PlanError, as_cloud, as_listen, as_path

SPECIAL = set("\"'`$\\{};#<>|&()*?!%\n\r\t ")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "read-token"
    file.touch(mode=0o600)
    file.write_text("abc.def-ghi_jkl\n")
    return file


def call(tmp_path: Path, token: Path, *words: object, kind: str = "nginx") -> tuple[int, str]:
    usual = {"--listen": "192.168.1.10:1000", "--cloud": "https://cloud.example", "--token-file": token}
    given = [word for name, value in usual.items() if name not in words for word in (name, str(value))]
    result = CliRunner().invoke(app, ["proxy", kind, "--out", str(tmp_path / "out"), *given, *map(str, words)])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--listen", "0.0.0.0:1000"), "would answer on every network"),
        (("--listen", "[::]:1000"), "would answer on every network"),
        (("--listen", "224.0.0.1:1000"), "no machine has this address"),
        (("--listen", "300.1.1.1:1000"), "this is no address"),
        (("--listen", "nrgkick.local:1000"), "write address and port"),
        (("--listen", "192.168.1.10"), "write address and port"),
        (("--listen", "192.168.1.10:0"), "write address and port"),
        (("--listen", "192.168.1.10:70000"), "write address and port"),
        (("--listen", "192.168.1.10:1000; include /etc/passwd"), "write address and port"),
        (("--cloud", "http://cloud.example"), "plain http would show the token"),
        (("--cloud", "http://192.168.1.9:8080"), "plain http would show the token"),
        (("--cloud", "ftp://cloud.example"), "write the address of the function"),
        (("--cloud", "https://me:secret@cloud.example"), "no login"),
        (("--cloud", "https://cloud.example/?a=b"), "no query"),
        (("--cloud", "https://cloud.example/../x"), "a path with dots"),
        (("--cloud", "https://192.0.2.1"), "a certificate is checked against a name"),
        (("--cloud", "https://cloud_.example\nx"), "write the address of the function"),
        (("--cloud", "https://-cloud.example"), "no host name"),
        (("--cloud", "https://cloud.example/api/v1/values.json"), 'write "https://cloud.example"'),
        (("--socket", "/run/a b.sock"), "use letters, digits"),
        (("--socket", "/run"), "write /run/pusher.sock"),
        (("--socket", "/run/" + "x" * 103), "more than 107 bytes"),
        (("--socket", ""), "this is a folder"),
        (("--out", "/tmp/a;b"), "use letters, digits"),
        (("--out", "/tmp/a b"), "use letters, digits"),
        (("--out", "/tmp/a'b"), "use letters, digits"),
        (("--out", "/tmp/$HOME"), "use letters, digits"),
        (("--out", "/tmp/a\nb"), "use letters, digits"),
        (("--out", "/proc/nothing"), "choose another folder"),
        (("--out", "/etc/nrgkick-pusher/proxy"), "use /etc/nrgkick-proxy"),
        (("--ca", "/nowhere/ca.pem"), "No such file"),
        (("--token-file", "/nowhere/token"), "nrgkick-cloud token --site home --scope read"),
    ],
)
def test_a_wrong_word_is_named_with_a_right_one(tmp_path: Path, token: Path, words: tuple[str, ...], says: str) -> None:
    code, said = call(tmp_path, token, *words)
    assert code == 1
    assert says in said
    assert words[0] in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "two words", 'a"; include /x; "', "a\nb", "ü", "a\0b", "x" * 5000])
def test_a_file_that_holds_no_token_is_refused_and_not_shown(tmp_path: Path, token: Path, text: str) -> None:
    token.write_text(text)
    code, said = call(tmp_path, token)
    assert code == 1
    assert "does not hold one token" in said
    assert not text or text not in said


def test_without_a_cloud_the_command_says_what_to_write(
    tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["proxy", "nginx", "--token-file", str(token)])
    assert result.exit_code == 1
    assert "--cloud https://" in result.output


def test_a_folder_of_another_user_is_refused_with_what_to_do(tmp_path: Path, token: Path) -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may write everywhere
    folder = Path("/var/lib")
    try:
        result = CliRunner().invoke(
            app, ["proxy", "gcloud", "--out", str(folder), "--listen", "127.0.0.1:1000", "--cloud", "https://a.example"]
        )
    finally:
        os.seteuid(os.getuid())
    assert result.exit_code == 1
    assert f"--out {folder}: Permission denied; call this with sudo, or choose another folder" in result.output


def test_an_address_that_this_machine_has_not_is_taken_with_a_warning(tmp_path: Path, token: Path) -> None:
    code, said = call(tmp_path, token, "--listen", "203.0.113.7:1000")
    assert code == 0
    assert "203.0.113.7 is no address of this machine at the moment" in said
    assert "no address of this machine" not in call(tmp_path, token, "--listen", "127.0.0.1:1000")[1]


def test_a_certificate_file_without_one_is_refused(tmp_path: Path, token: Path) -> None:
    code, said = call(tmp_path, token, "--ca", token)
    assert code == 1
    assert "holds no certificate in PEM" in said


def test_a_token_that_others_can_read_is_taken_with_a_warning(tmp_path: Path, token: Path) -> None:
    token.chmod(0o644)
    code, said = call(tmp_path, token)
    assert code == 0
    assert f"chmod 600 {token}" in said


def test_only_gcloud_does_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--listen", "127.0.0.1:1000", "--cloud", "https://nrgkick-abc-ew.a.run.app"]
    assert CliRunner().invoke(app, ["proxy", "gcloud", *words]).exit_code == 0
    assert "services proxy nrgkick --port" in (tmp_path / "nrgkick-proxy" / "run").read_text()
    refused = CliRunner().invoke(app, ["proxy", "nginx", *words])
    assert refused.exit_code == 1
    assert "--token-file is missing" in refused.output


def test_defaults_come_from_the_pushers_configuration(
    tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even from one that is not complete yet; but never its token, which may only push."""
    monkeypatch.chdir(tmp_path)
    config = {"cloud": {"url": "https://from-config.example", "token": "push-token"}, "run_dir": "/run/elsewhere"}
    Path("pusher.yaml").write_text(json.dumps(config))
    result = CliRunner().invoke(app, ["proxy", "nginx", "--token-file", str(token), "--listen", "127.0.0.1:1000"])
    assert result.exit_code == 0, result.output
    written = "".join(path.read_text() for path in Path("nrgkick-proxy").iterdir())
    assert "proxy_ssl_name from-config.example;" in written
    assert "server unix:/run/elsewhere/pusher.sock;" in written
    assert "push-token" not in written


def test_an_ipv6_address_is_listened_on_and_plain_http_is_for_loopback(tmp_path: Path, token: Path) -> None:
    code, _ = call(tmp_path, token, "--listen", "[fd00::10]:1000", "--cloud", "http://127.0.0.1:8080")
    assert code == 0
    written = (tmp_path / "out" / "nginx.conf").read_text()
    assert "listen [fd00::10]:1000;" in written
    assert "proxy_ssl" not in written


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:/\[\]@\n -]{1,40}", fullmatch=True))
@example("https://cloud.example/\n")
@example("https://cloud.example\n")
def test_no_address_of_a_cloud_can_say_more_than_where_it_is(text: str) -> None:
    try:
        cloud = as_cloud(text)
    except PlanError:
        return
    assert not SPECIAL & set(cloud.url)
    assert cloud.url.isascii()
    assert as_cloud(cloud.url) == cloud


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f.:\[\]\n]{1,40}", fullmatch=True))
@example("192.168.1.10:1000\n")
def test_no_listen_address_can_say_more_than_where_it_is(text: str) -> None:
    try:
        listen = as_listen(text)
    except PlanError:
        return
    assert not SPECIAL & set(str(listen))
    assert as_listen(str(listen)) == listen


@given(st.text(max_size=40))
@example("a\n")
def test_no_path_needs_quoting(text: str) -> None:
    try:
        path = as_path("--out", Path(text.replace("\0", "")))
    except PlanError:
        return
    assert not SPECIAL & set(str(path))
