"""Starts a server and three clients as processes on this machine, and compares what they come to with our own engine.

    pip install "advanced-optimizers[flower]"      # in an environment of its own
    python examples/flower/run.py

Everything is on the loopback interface and without encryption. On real machines, start the server's
``flower-superlink`` with certificates, and ``flower-supernode --superlink ADDRESS --node-config "partition-id=N"`` on
each client's; see Flower's documentation.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
TOLERANCE, SECONDS = 1e-6, 500.0
# No reports of use, and nothing is installed while it runs.
SETTINGS = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}
os.environ.update(SETTINGS)
sys.path.insert(0, str(HERE))

import torch  # noqa: E402 - Flower reads the settings when it is imported
from averaging import LEARNING_RATE, SIZES, make_client, make_model  # noqa: E402

from advanced_optimizers.automl.federated import FederatedAveraging  # noqa: E402


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens to."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]


def run_flower(folder: Path, num_rounds: int, num_epochs: int) -> dict[str, torch.Tensor]:
    """The global model's state after the rounds, with a server and three clients in processes of their own."""
    server, *clients = free_ports(1 + len(SIZES))
    address = f"127.0.0.1:{server}"
    (folder / "config.toml").write_text(f'[superlink.here]\naddress = "{address}"\ninsecure = true\n')
    environment = {**os.environ, "FLWR_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    saved = folder / "state.pt"
    own_config = f"num-rounds={num_rounds} num-epochs={num_epochs} save-to='{saved}'"
    local = ["--insecure", "--host", "127.0.0.1", "--port"]
    link = ["flower-superlink", *local, str(server)]
    nodes = [
        ["flower-supernode", *local, str(port), "--superlink", address, "--node-config", f"partition-id={number}"]
        for number, port in enumerate(clients)
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log.txt").open("wb") as log:
            for command in (link, *nodes):
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
            wait_until(lambda: listens(server), "the server does not listen")
            subprocess.run(["flwr", "run", str(HERE), "here", "--run-config", own_config], env=environment, check=True)
            wait_until(saved.exists, "the server did not finish")
    except BaseException:
        print((folder / "log.txt").read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)  # and the processes that it started
        for process in started:
            process.wait(timeout=60)
    state: dict[str, torch.Tensor] = torch.load(saved, weights_only=True)
    return state


def listens(port: int) -> bool:
    """Whether somebody listens to a port of the loopback interface."""
    with socket.socket() as own:
        return own.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    """Waits for something, for as long as it may take."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(otherwise)
        time.sleep(0.2)


def largest_difference(num_rounds: int = 3, num_epochs: int = 2) -> float:
    """Between the global model of Flower's engine and that of ours, over all parameters and buffers."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = run_flower(Path(folder), num_rounds, num_epochs)
    ours = FederatedAveraging(make_model(), [make_client(k) for k in range(len(SIZES))], lr=LEARNING_RATE)
    for _ in range(num_rounds):
        ours.federated_round(num_epochs)
    state = ours.global_model.state_dict()
    if theirs.keys() != state.keys():
        raise ValueError(f"the states must have the same names, got {sorted(theirs)} and {sorted(state)}")
    return max(float((theirs[name].double() - state[name].double()).abs().max()) for name in state)


if __name__ == "__main__":
    difference = largest_difference()
    print(f"largest difference of a parameter or buffer: {difference:.1e}")
    sys.exit(0 if difference <= TOLERANCE else 1)
