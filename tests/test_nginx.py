"""Page and API below a path of a real nginx, with a model whose name has a slash."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from conftest import ROOT
from scripted_worker import scripted_worker
from serving import HTTP, Address, Server, free_port, local_controller, running
from visiting import Visitor, form

from judgelm.serve.client import Client

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MODEL = "org/a-judge"
pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed (apt-get install nginx)")

_AROUND = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen 127.0.0.1:PORT; include judge.conf; }
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The address of the path, behind which are API and page."""
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    with local_controller() as controller, scripted_worker(controller, name=MODEL):
        shared = ("--root-path", "/judge", "--allowed-hosts", "judge.example.com")
        api = Server("api", folder, "--controller-address", controller.url, "--batch-dir", folder / "batches", *shared)
        page = Server("gradio_web_server_judgelm", folder, "--controller-url", controller.url, *shared)
        given = (ROOT / "deploy" / "nginx.conf").read_text()
        for old, new in (("127.0.0.1:21003", api.url[7:]), ("127.0.0.1:7860", page.url[7:])):
            assert old in given
            given = given.replace(old, new)
        (folder / "judge.conf").write_text(given)
        (folder / "nginx.conf").write_text(_AROUND.replace("PORT", str(port)))
        with running(api, page):
            api.wait(lambda: api.get("/health").status_code == 200)
            page.wait(lambda: page.get("/").status_code == 200)
            nginx = subprocess.Popen([NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])
            try:
                site = Address(f"http://127.0.0.1:{port}/judge")
                site.wait(lambda: site.get("/health").status_code == 200)
                yield site
            finally:
                nginx.send_signal(signal.SIGTERM)
                nginx.wait(20)


def test_the_api_is_there_for_all_clients(site: Address) -> None:
    client = openai.OpenAI(base_url=site.url + "/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    # OpenAI's client writes the slash of a name as %2F, others write it as it is
    assert client.models.retrieve(MODEL).id == MODEL
    assert site.get(f"/v1/models/{MODEL}").json()["id"] == MODEL
    stream = client.completions.create(model=MODEL, prompt="Question 1", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "8 7\nGood."
    verdict = Client(site.url).judge("Question 1?", ["a", "b"], model=MODEL, orders="forward")
    assert verdict["scores"] == [8, 7]
    # more than nginx takes by itself
    file = client.files.create(file=b"{}\n" * 700_000, purpose="batch")
    assert client.files.retrieve(file.id).bytes == 2_100_000
    described = site.get("/openapi.json").json()
    assert described["servers"] == [{"url": "/judge"}]
    assert "/judge/openapi.json" in site.get("/docs").text
    assert HTTP.get(site.url.removesuffix("/judge") + "/v1/models").status_code == 404
    # what is not for the world
    assert site.get("/metrics").status_code == 404


def test_the_page_is_there_and_judges(site: Address) -> None:
    assert HTTP.get(site.url).headers["location"] == "/judge/"
    text = site.get("/").text
    assert f'"root":"{site.url}"' in text.replace(" ", "")
    # what the page loads lies below the path too
    assert 'src="/' not in text
    visitor = Visitor(site)
    assert visitor.config["root"] == site.url
    ended = visitor.run("judge-go", "click", *form(model=MODEL), None, "Question 1?", "Because.", "So.")
    assert "does not survive the swap" in ended["output"]["data"][0], ended


def test_other_names_and_pages_of_other_sites_are_refused_as_ever(site: Address) -> None:
    assert site.get("/v1/models", headers={"host": "judge.example.com"}).status_code == 200
    assert site.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
    assert site.get("/", headers={"host": "evil.example"}).status_code == 403
    evil = {"origin": "http://evil.example"}
    assert site.post("/v1/judgements", {}, headers=evil).status_code == 403
    own = {"origin": site.url.removesuffix("/judge")}
    assert site.post("/v1/judgements", {}, headers=own).status_code == 422
    for name in ("openapi.json", "deep_link?session_hash=x"):
        assert site.get(f"/gradio_api/{name}").status_code == 404
        assert site.get(f"//gradio_api/{name}").status_code == 404
