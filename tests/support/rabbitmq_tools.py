"""RabbitMQ's commands, such as rabbitmqctl, of an unpacked installation: its shell scripts need an installed one."""

from ops.up.packages.rabbitmq import Installation


def command(installation: Installation, program: str) -> list[str]:
    """The beginning of the command that runs `program`, such as rabbitmq-queues. Its arguments follow."""
    escript = installation.server / "escript" / program
    with open(escript, "rb") as file:
        head = file.read(300).decode(errors="replace")
    main = head.partition("-escript main ")[2].split()[0]  # rabbitmqctl_escript, since 4.3 Elixir.RabbitMQCtl
    start = f"+B -noshell -escript main {main} -run escript start -extra".split()
    return [str(installation.runtime / "erlexec"), *start, str(escript)]
