"""``vox2vec view`` before there is a page: what it says when the page cannot be had."""

import socket
import sys

import pytest

from Testing.support.commands import runner


@pytest.mark.parametrize("missing", ["Vox2VecWeb", "trame_slicer", "slicer", "aiohttp"])
def test_without_the_extra(missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    code, out, err = runner(capsys)("view")
    assert (code, out) == (2, "")
    assert err == "Error: The browser viewer needs an optional package: pip install 'vox2vec-slicer[web]'.\n"


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, out, err = runner(capsys)("view", "--no-browser", "--port", port)
    assert (code, out) == (2, "")
    assert (
        err == f"Error: Cannot listen on 127.0.0.1, port {port}: Address already in use. Choose another with --port.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no/such.nii.gz"], "no/such.nii.gz: no such file or folder; check the path."),
        (["--follow-up", "later.nii.gz"], "later.nii.gz: no such file or folder; check the path."),
        (["--model", "nobody"], "Unknown model 'nobody'"),
        (["--host", "203.0.113.77"], "on 203.0.113.77: Cannot assign requested address. Choose another with --host."),
        (["--port", "70000"], "70000 is not in the range"),
    ],
)
def test_what_cannot_be_shown_is_said_before_a_page_opens(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail(f"{url} was opened"))
    code, out, err = runner(capsys)("view", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
