"""What deploy/ promises an operator: logins, limits, encryption, rights on one prefix, the versions that are tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from gateway_server import CONFIG
from moto.server import ThreadedMotoServer

PROJECT = Path(__file__).resolve().parent.parent
DEPLOY = PROJECT / "deploy"


def values(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "set FTRACK_GATEWAY_PASSWORD"),
        ({"PASSWORD": "short"}, "set FTRACK_GATEWAY_PASSWORD"),
        ({"PASSWORD": "long enough", "ADDRESS": "0.0.0.0:0"}, "can be reached from elsewhere"),
        ({"PASSWORD": "long enough", "ADDRESS": ":0"}, "can be reached from elsewhere"),
    ],
)
def test_a_gateway_that_would_be_open_to_all_does_not_start(settings: dict[str, str], text: str, tmp_path: Path) -> None:
    pytest.importorskip("dask_gateway_server")
    given = {f"FTRACK_GATEWAY_{name}": value for name, value in {"STATE": str(tmp_path), **settings}.items()}
    command = [sys.executable, "-m", "dask_gateway_server", "-f", str(CONFIG)]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert text in done.stderr


def test_the_configuration_for_kubernetes_runs_and_limits_what_users_may_ask_for() -> None:
    pytest.importorskip("dask_gateway_server")
    from traitlets.config import Config

    c = Config()
    for _, code in sorted(values("values.yaml")["gateway"]["extraConfig"].items()):
        exec(code, {"c": c})
    assert 300 <= c.ClusterConfig.idle_timeout <= 7200
    assert c.ClusterConfig.cluster_max_workers
    assert c.ClusterConfig.scheduler_cmd == ["dask", "scheduler"]
    offered = c.Backend.cluster_options
    asked = offered.parse_options({"worker_threads": 2, "worker_memory": 8.0, "environment": {"A": "1"}})
    made = offered.get_configuration(asked, SimpleNamespace(name="somebody"))
    assert made["worker_memory"] == made["worker_memory_limit"] == "8.000 G"
    assert made["environment"] == {"A": "1"}
    with pytest.raises(ValueError, match="must be <="):
        offered.parse_options({"worker_memory": 1000.0})


def test_kubernetes_has_a_login_encryption_and_no_public_address() -> None:
    gateway, hub = values("values.yaml"), values("hub.yaml")
    assert gateway["gateway"]["auth"]["type"] == "jupyterhub"
    assert gateway["traefik"]["service"]["type"] == "ClusterIP"
    assert gateway["gateway"]["prefix"] == hub["singleuser"]["extraEnv"]["DASK_GATEWAY__ADDRESS"].removeprefix("https://hub.example.org")
    assert hub["proxy"]["https"]["enabled"]
    assert "dask-gateway" in hub["hub"]["services"]
    (allowed,) = hub["singleuser"]["networkPolicy"]["egress"]
    assert allowed["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "traefik"
    blocked = values("network-policy.yaml")["spec"]["egress"][-1]["to"][0]["ipBlock"]["except"]
    assert {"169.254.0.0/16", "10.0.0.0/8"} <= set(blocked)


def test_the_image_has_the_python_and_the_versions_that_are_tested() -> None:
    image = (DEPLOY / "image" / "Dockerfile").read_text()
    tested = re.search(r"CPython (\d\.\d+)", (PROJECT / "constraints.txt").read_text())
    assert tested is not None
    assert f"FROM python:{tested[1]}-" in image
    assert "-c constraints.txt" in image
    assert "USER worker" in image
    for copied in re.findall(r"^COPY (.+) \S+$", image, re.MULTILINE):
        assert all((PROJECT / name).exists() for name in copied.split())


def test_notebooks_have_the_versions_and_the_rights_of_the_workers() -> None:
    image, single = (DEPLOY / "image" / "notebook.Dockerfile").read_text(), values("hub.yaml")["singleuser"]
    assert "FROM ${WORKER}" in image and "-c /opt/ftrack/constraints.txt" in image
    worker = values("values.yaml")["gateway"]["backend"]["worker"]["extraPodConfig"]
    assert single["serviceAccountName"] == worker["serviceAccountName"]
    assert f"create serviceaccount {worker['serviceAccountName']}" in (DEPLOY / "README.md").read_text()
    home = re.search(r"^WORKDIR (/home/.+)$", (DEPLOY / "image" / "Dockerfile").read_text(), re.MULTILINE)
    assert home is not None and single["storage"]["homeMountPath"] == home[1]


def test_the_command_that_makes_the_policy_leaves_no_place_to_be_filled_in() -> None:
    command = re.search(r"^ +(sed .+) > policy.json$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert command is not None
    made = subprocess.run(command[1], shell=True, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert json.loads(made)["Statement"][0]["Condition"]["StringLike"]["s3:prefix"] == ["velocity", "velocity/*"]
    assert "BUCKET" not in made and "PREFIX" not in made


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a server that checks rights from now on, and a user who has those of the policy, in the environment."""
    boto3 = pytest.importorskip("boto3")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    root = {**access, "aws_access_key_id": "root", "aws_secret_access_key": "root"}
    iam, s3 = boto3.client("iam", **root), boto3.client("s3", **root)
    s3.create_bucket(Bucket="glaciers")
    iam.create_user(UserName="worker")
    text = (DEPLOY / "s3-policy.json").read_text().replace("BUCKET", "glaciers").replace("PREFIX", "velocity")
    policy = json.loads(text)
    # The server is on this machine and has no certificate.
    policy["Statement"] = [part for part in policy["Statement"] if part["Sid"] != "NeverWithoutEncryption"]
    iam.put_user_policy(UserName="worker", PolicyName="prefix", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    for name, value in {
        "AWS_ENDPOINT_URL": access["endpoint_url"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    s3.close()
    iam.close()
    server.stop()


def probed(*outputs: str) -> list[str]:
    """Probe in a process of its own: an open file system remembers the address that the environment had before."""
    program = f"from ftrack.doctor import probe_output\nfor place in {outputs!r}: print(probe_output(place))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


def test_the_policy_lets_workers_use_one_prefix_and_nothing_else(bucket: Any) -> None:
    inside, outside, beside = probed(
        *(f"s3://glaciers/{name}.zarr" for name in ("velocity/jakobshavn", "elsewhere/jakobshavn", "velocity2"))
    )
    assert inside == ""
    assert "cannot be accessed" in outside
    assert "cannot be accessed" in beside
