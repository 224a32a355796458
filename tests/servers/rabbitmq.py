"""A private RabbitMQ."""

import os
import random
import subprocess
from pathlib import Path

from tests.servers.process import Server, find_program, free_port, is_listening


class Rabbit(Server):
    """RabbitMQ with its own name server, so that it does not meet another Erlang on this machine."""

    epmd: Server

    def start(self) -> "Server":
        if not self.epmd.process:
            self.epmd.start()
        return super().start()

    def sync_tables(self) -> None:
        """Write the tables of queues to the disk, as a broker does that has run for a while.

        Old versions (3.10) do so minutes after a queue was made. If they are killed before, the queue is broken after
        the start.
        """
        self.rabbitmqctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def create_vhost(self) -> str:
        """Return the URL of a new, empty virtual host."""
        name = f"host{random.SystemRandom().randrange(10**12)}"
        self.rabbitmqctl("add_vhost", name)
        self.rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return self.url + name

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`, and return its output."""
        command = [find_program("rabbitmqctl"), "-q", "-n", self.env["RABBITMQ_NODENAME"], *arguments]
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout  # noqa: S603


def rabbit(folder: Path) -> Rabbit:
    """Return a RabbitMQ without plugins, with the user `guest` as administrator."""
    port, names_port, distribution_port = free_port(), free_port(), free_port()
    (folder / "plugins").write_text("[].")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\nlog.console = true\nlog.file = false\n"
    )
    env = {
        "ERL_EPMD_PORT": str(names_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "HOME": str(folder),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_NODENAME": f"kurs{port}@localhost",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server, and so gets its signals
    }
    server = Rabbit(
        "RabbitMQ",
        f"amqp://guest:guest@127.0.0.1:{port}/",
        folder,
        [find_program("rabbitmq-server")],
        ready=lambda: is_listening(port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"),
        env=env,
    )
    command = [find_program("epmd"), "-port", str(names_port), "-address", "127.0.0.1"]
    server.epmd = Server("epmd", "", folder, command, ready=lambda: is_listening(names_port))
    return server
