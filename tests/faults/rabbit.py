"""Faults that only RabbitMQ's own node can cause: alarms, and closed connections. A second Erlang node calls it."""

import secrets
import subprocess

from ops.up.rabbitmq import RabbitMQ


def memory_alarm(rabbitmq: RabbitMQ, on: bool) -> None:
    """Sets the memory alarm: RabbitMQ blocks publishers."""
    limit = "1000" if on else "512000000"
    _evaluate(rabbitmq, f"ok = rpc:call(Node, vm_memory_monitor, set_vm_memory_high_watermark, [{{absolute, {limit}}}]),")
    _wait_for_alarm(rabbitmq, "memory", on)


def disk_alarm(rabbitmq: RabbitMQ, on: bool) -> None:
    """Sets the disk alarm, which blocks publishers, too."""
    limit = "900000GB" if on else "50MB"
    _evaluate(rabbitmq, f'_ = rpc:call(Node, rabbit_disk_monitor, set_disk_free_limit, ["{limit}"]),')
    _wait_for_alarm(rabbitmq, "disk", on)


def close_connections(rabbitmq: RabbitMQ) -> None:
    """Closes all connections, as `rabbitmqctl close_all_connections` does."""
    _evaluate(
        rabbitmq,
        """
        Connections = rpc:call(Node, rabbit_networking, connections, []),
        [ok = rpc:call(Node, rabbit_networking, close_connection, [Pid, "closed by force"]) || Pid <- Connections],
        """,
    )


def _wait_for_alarm(rabbitmq: RabbitMQ, which: str, on: bool) -> None:
    _evaluate(
        rabbitmq,
        f"""
        Is = fun() -> lists:any(fun({{{{resource_limit, Which, _}}, _}}) -> Which =:= {which}; (_) -> false end,
                                rpc:call(Node, rabbit_alarm, get_alarms, [])) end,
        Wait = fun F(0) -> halt(3);
                   F(N) -> Is() =:= {"true" if on else "false"} orelse begin timer:sleep(100), F(N - 1) end end,
        Wait(200),
        """,
    )


def _evaluate(rabbitmq: RabbitMQ, code: str) -> None:
    """Evaluates Erlang code on the node; fails if the code fails."""
    name = f"helper{secrets.token_hex(4)}@localhost"
    code = f"Node = 'stint@localhost', {code} halt(0)."
    command = [str(rabbitmq.installation.runtime / "erlexec"), "-noinput", "-hidden", "-sname", name, "-eval", code]
    done = subprocess.run(command, env=rabbitmq._environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{code}: {done.returncode} {done.stdout} {done.stderr}"
