"""The files that others' machines read: Docker, Compose, systemd, Kubernetes, GitHub. Each is held against a checker or
its schema, and what it starts against our own parsers and servers.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PATIENCE_S, ROOT
from serving import Address, local_stack, served

from judgelm.cli import build_parser
from judgelm.serve import api, controller, gradio_web_server_judgelm, model_worker
from judgelm.serve.draining import DRAIN_S
from judgelm.serve.hosts import read_hosts
from judgelm.serve.servers import address_of, listen
from judgelm.serve.settings import API_PORT, CONTROLLER_PORT, PAGE_PORT, WORKER_PORT

TOOLS = ROOT / ".venv-tools" / "bin"
needs_tools = pytest.mark.skipif(not (TOOLS / "hadolint").exists(), reason="scripts/setup_tools has not been run")
SERVERS = {"controller": controller, "model_worker": model_worker, "api": api, "gradio_web_server_judgelm": None}
PORTS = {"controller": CONTROLLER_PORT, "worker": WORKER_PORT, "api": API_PORT, "page": PAGE_PORT}
KUBERNETES = """
import json, sys, kubernetes_validate
for name, document in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(document, "1.37", strict=True)
    except Exception as error:
        print(name, error)
"""


def check(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **settings)


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")))


def parsed(words: list[str]) -> Namespace:
    """What one of our commands makes of its words; which one it is stands in `program`."""
    if words[:2] == ["python", "-m"]:
        program = words[2].removeprefix("judgelm.serve.")
        parser: ArgumentParser = (SERVERS[program] or gradio_web_server_judgelm).build_parser()
        rest = words[3:]
    else:
        program, parser, rest = words[1], build_parser(), words[1:]
        assert Path(words[0]).name == "judgelm"
    return Namespace(**vars(parser.parse_args(rest)) | {"program": program})


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """compose.yaml as Compose reads it where the environment says nothing."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


@pytest.fixture(scope="module")
def commands(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Namespace]:
    """What its services start."""
    # a shell between prints what it would start
    stub = tmp_path_factory.mktemp("bin") / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" python "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    found = {}
    for name, service in compose.items():
        words = [*service["entrypoint"], *service["command"]]
        if words[0] == "sh":
            env = {"PATH": f"{stub.parent}:/usr/bin:/bin", "HOSTNAME": "0a1b2c"}
            words = check(*words, env=env).stdout.splitlines()
        found[name] = parsed(words)
    return found


@needs_tools
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    result = check(TOOLS / "hadolint", "Dockerfile")
    assert (result.returncode, result.stdout) == (0, "")


@needs_tools
@pytest.mark.parametrize(
    ("schema", "files"),
    [("compose-spec", ["compose.yaml", "deploy/compose.cuda.yaml"]), ("github-workflows", None)],
)
def test_files_of_compose_and_github_follow_their_schemas(schema: str, files: list[str] | None) -> None:
    given = files or sorted(str(path) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    result = check(TOOLS / "python", "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *given)
    assert result.returncode == 0, result.stdout


def test_the_last_lines_of_ci_name_what_failed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    # pytest's -ra ends with errors and failures, and a later -r takes its place
    assert "-ra" in settings["addopts"]
    (line,) = re.findall("^exec scripts/test .*$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert not [word for word in line.split() if word.startswith("-r")]


def test_the_images_context_has_what_it_copies_and_no_more() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert all((ROOT / name).exists() for name in sources)


def test_the_index_of_torch_is_asked_for_torch_alone() -> None:
    steps = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").split("pip install")
    (words,) = [step.split(";")[0].split() for step in steps if "--index-url" in step]
    assert words[-1] == "torch"
    assert "--no-deps" in words
    assert {"--constraint", "/tmp/constraints.txt"} < set(words)


def test_the_images_command_is_one_of_ours() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    words = [word for kind in ("ENTRYPOINT", "CMD") for word in json.loads(text.split(f"\n{kind} ")[1].split("\n")[0])]
    args = parsed(words)
    assert (args.program, args.host) == ("serve", "0.0.0.0")
    exposed = re.findall(r"^EXPOSE (.*)$", text, re.MULTILINE)
    assert exposed == [f"{args.port} {args.api_port}"]


def test_the_containers_of_compose_find_each_other(commands: dict[str, Namespace], compose: dict[str, Any]) -> None:
    assert {name: args.port for name, args in commands.items()} == PORTS
    assert all(args.host == "0.0.0.0" for args in commands.values())
    found = f"http://controller:{CONTROLLER_PORT}"
    assert [commands["worker"].controller_address, commands["api"].controller_address] == [found, found]
    assert commands["page"].controller_url == found
    assert commands["worker"].worker_address == f"http://0a1b2c:{WORKER_PORT}"
    for name, called in (("controller", "controller:21001"), ("api", "api:21003"), ("page", "localhost:7860")):
        assert read_hosts(commands[name].allowed_hosts, "127.0.0.1").allows(called)
    assert commands["worker"].model_path == "tiny"
    assert Path(commands["page"].log_dir).is_relative_to("/data")
    for name, service in compose.items():
        (volume,) = service["volumes"]
        assert volume == "data:/data"
        # Compose stops a service before those that it depends on
        before = {"controller": [], "worker": ["controller"], "api": ["controller", "worker"]}
        assert list(service.get("depends_on", ())) == before[{"page": "api"}.get(name, name)]


@pytest.fixture(scope="module")
def stack(model_folder: Path) -> Iterator[dict[str, Address]]:
    with local_stack(model_folder) as (one, two, three):
        yield {"controller": one, "worker": two, "api": three}


def test_the_health_checks_of_compose_are_answered(compose: dict[str, Any], stack: dict[str, Address]) -> None:
    for name, server in stack.items():
        kind, python, flag, code = compose[name]["healthcheck"]["test"]
        assert (kind, python, flag) == ("CMD", "python", "-c")
        written = f"http://127.0.0.1:{PORTS[name]}"
        assert written in code
        code = code.replace(written, server.url)
        assert check(sys.executable, "-c", code).returncode == 0, name
        wrong = re.sub(r"/\w+'", "/nothing'", code)
        assert check(sys.executable, "-c", wrong).returncode == 1, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in (ROOT / "deploy" / "systemd").iterdir():
        # an instance is checked, not the template, and a program that is there
        name = unit.name.replace("@", "@a")
        text = unit.read_text(encoding="utf-8").replace("/opt/judgelm/bin/judgelm", "/bin/true")
        (tmp_path / name).write_text(text, encoding="utf-8")
        result = check("systemd-analyze", "verify", "--man=no", tmp_path / name)
        assert result.returncode == 0, result.stderr
        assert name not in result.stderr


def test_the_units_start_commands_of_ours() -> None:
    given = {
        "judgelm.service": "--model tiny",
        "judgelm-worker@.service": "--model tiny --controller-address http://10.0.0.1:21001 --worker-host 10.0.0.2",
    }
    assert set(given) == {unit.name for unit in (ROOT / "deploy" / "systemd").iterdir()}
    for name, flags in given.items():
        text = (ROOT / "deploy" / "systemd" / name).read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        assert line.endswith(" $JUDGELM_FLAGS")
        args = parsed([*shlex.split(line)[:-1], *flags.split()])
        assert args.log_dir.startswith("%L/judgelm")
        assert args.workers_only == ("worker" in name)


def pods() -> dict[str, Any]:
    """The templates of all pods, by the name of their deployment or group."""
    found = {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in documents("deploy/kubernetes/serve.yaml")
        if one["kind"] == "Deployment"
    }
    (job,) = documents("deploy/kubernetes/judge-job.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    return found | {"head": cluster["headGroupSpec"]["template"], "gpu": cluster["workerGroupSpecs"][0]["template"]}


@needs_tools
def test_kubernetes_takes_the_files() -> None:
    every = [(one["kind"], one) for one in documents("deploy/kubernetes/serve.yaml")]
    # its schemas know no RayJob, whose pods are the usual ones
    kind = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
    every += [(name, {**kind, "template": template}) for name, template in pods().items()]
    wrong = ("wrong", {**kind, "template": {"spec": {"container": []}}})
    result = check(TOOLS / "python", "-c", KUBERNETES, input=json.dumps([*every, wrong]))
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines() if line.strip()][:1] == ["wrong"]


def test_the_pods_find_each_other_and_their_probes_are_answered(stack: dict[str, Address]) -> None:
    service = documents("deploy/kubernetes/serve.yaml")[0]
    front, worker = pods()["judgelm"], pods()["judgelm-worker"]
    assert service["spec"]["selector"] == front["metadata"]["labels"]
    assert {one["name"]: one["port"] for one in service["spec"]["ports"]} == {
        name: port for name, port in PORTS.items() if name != "worker"
    }
    for container in (*front["spec"]["containers"], *worker["spec"]["containers"]):
        name = container["name"]
        args = parsed([*container["command"], *container["args"]])
        assert (args.host, args.port) == ("0.0.0.0", PORTS[name])
        (port,) = container["ports"]
        assert (port["name"], port["containerPort"]) == (name, args.port)
        if name != "worker":
            assert read_hosts(args.allowed_hosts, "127.0.0.1").allows(f"judgelm:{args.port}")
            assert read_hosts(args.allowed_hosts, "127.0.0.1").allows("judgelm.space.svc.cluster.local")
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in (probe := container.get(kind, {})):
                assert probe["httpGet"]["port"] == name
                assert stack[name].get(probe["httpGet"]["path"]).status_code == 200
    assert args.worker_address == f"http://$(POD_IP):{WORKER_PORT}"
    assert args.controller_address == f"http://{service['metadata']['name']}:{CONTROLLER_PORT}"


def test_a_probe_of_the_api_waits_for_nobody() -> None:
    (container,) = [one for one in pods()["judgelm"]["spec"]["containers"] if one["name"] == "api"]
    # a controller that takes calls and answers none
    with listen("127.0.0.1", 0) as silent:
        silent.listen()
        silent.setblocking(False)
        with served(api.create_app(address_of(silent), ["key"])) as url:
            for kind in ("readinessProbe", "livenessProbe"):
                assert Address(url).get(container[kind]["httpGet"]["path"]).status_code == 200
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_the_parts_of_a_cluster_end_one_after_the_other() -> None:
    def waits(container: dict[str, Any]) -> int:
        """Seconds, until it hears that it shall end."""
        hook = container.get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
        name, seconds = hook["exec"]["command"]
        assert name == "sleep"
        return int(seconds)

    front, worker = pods()["judgelm"]["spec"], pods()["judgelm-worker"]["spec"]
    times = {one["name"]: waits(one) for one in (*front["containers"], *worker["containers"])}
    assert times["api"] + DRAIN_S < times["worker"]
    assert times["page"] + DRAIN_S < times["worker"]
    assert times["worker"] + DRAIN_S <= worker["terminationGracePeriodSeconds"] - 10
    assert times["worker"] < times["controller"] <= front["terminationGracePeriodSeconds"] - 10


def test_the_job_of_ray_is_a_command_of_ours() -> None:
    (job,) = documents("deploy/kubernetes/judge-job.yaml")
    args = parsed(shlex.split(job["spec"]["entrypoint"]))
    assert (args.program, args.ray_address) == ("judge", "auto")
    cluster = job["spec"]["rayClusterSpec"]
    assert args.num_replicas == cluster["workerGroupSpecs"][0]["replicas"]
    pinned = dict(re.findall(r"^(\S+?)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert cluster["rayVersion"] == pinned["ray"]
    for path in (args.question_file, args.output_dir):
        assert all(
            any(Path(path).is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])
            for name in ("head", "gpu")
            for container in pods()[name]["spec"]["containers"]
        )
