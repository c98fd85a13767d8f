"""Dask Gateway on one machine: one login, clusters of processes with limits, stopped when they are idle.

Start it with: dask-gateway-server -f deploy/gateway/dask_gateway_config.py. Everything that differs between machines comes from
environment variables, all of which begin with FTRACK_GATEWAY_.
"""

import os
import sys
from pathlib import Path

from dask_gateway_server.options import Float, Integer, Mapping, Options

c = get_config()  # noqa: F821


def given(name: str, default: str) -> str:
    """Return a setting of this machine."""
    return os.environ.get(f"FTRACK_GATEWAY_{name}", default)


password = given("PASSWORD", "")
if len(password) < 8:
    sys.exit("set FTRACK_GATEWAY_PASSWORD to eight characters or more; without one anybody who reaches the gateway runs programs here")

state = Path(given("STATE", "/var/lib/ftrack-gateway"))
state.mkdir(mode=0o700, parents=True, exist_ok=True)
threads, memory = int(given("MAX_THREADS", "4")), float(given("MAX_MEMORY_GIB", "16"))

# Only the proxy's address is for users; a certificate makes it https, and then it may be something else than loopback.
c.DaskGateway.address = given("PRIVATE_ADDRESS", "127.0.0.1:8001")
c.Proxy.address = given("ADDRESS", "127.0.0.1:8000")
# Clusters are on this machine too and go past the proxy: they need not know the authority behind its certificate.
c.Backend.api_url = f"http://{c.DaskGateway.address}/api"
c.Proxy.tls_cert, c.Proxy.tls_key = given("TLS_CERT", ""), given("TLS_KEY", "")
if not c.Proxy.tls_cert and c.Proxy.address.rpartition(":")[0] not in ("127.0.0.1", "localhost", "[::1]"):
    sys.exit(f"{c.Proxy.address} can be reached from elsewhere: set FTRACK_GATEWAY_TLS_CERT and FTRACK_GATEWAY_TLS_KEY too")

c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = password

# All clusters run as the user that runs the gateway: a machine of one person or one group that trusts each other.
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.UnsafeLocalBackend.clusters_directory = str(state / "clusters")
c.UnsafeLocalBackend.inherited_environment = ["PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "HOME", *given("INHERIT", "").split()]
c.UnsafeLocalBackend.sigint_timeout = 5

# The commands dask-scheduler and dask-worker, which the gateway would call, are not part of Dask any more.
c.ClusterConfig.scheduler_cmd = [sys.executable, "-m", "dask", "scheduler"]
c.ClusterConfig.worker_cmd = [sys.executable, "-m", "dask", "worker"]
c.ClusterConfig.idle_timeout = float(given("IDLE_SECONDS", "1800"))
c.ClusterConfig.cluster_max_workers = int(given("MAX_WORKERS", "8"))
c.ClusterConfig.adaptive_period = 3

# A process that has died is noticed within seconds. One that is silent may only be busy: it is given a minute.
c.DBBackendBase.cluster_heartbeat_period = 5
c.DBBackendBase.cluster_heartbeat_timeout = 60
c.DBBackendBase.cluster_status_period = 3
c.DBBackendBase.check_timeouts_period = 2
# Clusters stop with the gateway: a run that is cut off is taken up again from its records.
c.DBBackendBase.stop_clusters_on_shutdown = True


def choose(options):
    """Turn what a user asks for into the configuration of a cluster."""
    return {
        "worker_cores": options.worker_threads,
        "worker_threads": options.worker_threads,
        "worker_memory": f"{options.worker_memory:.3f} G",
        "environment": {str(name): str(value) for name, value in options.environment.items()},
    }


c.Backend.cluster_options = Options(
    Integer("worker_threads", default=1, min=1, max=threads, label="Threads of a worker"),
    Float("worker_memory", default=min(4.0, memory), min=0.5, max=memory, label="Memory of a worker (GiB)"),
    Mapping("environment", default={}, label="Environment variables"),
    handler=choose,
)
