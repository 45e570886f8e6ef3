"""A listening socket that a process inherits from the one that starts it."""

import socket


def listening_socket(fd: int) -> socket.socket:
    """The listening TCP socket with that file descriptor, which the parent process opened and keeps open. Raises ValueError
    for a descriptor that is none."""
    try:
        inherited = socket.socket(fileno=fd)
    except (OSError, ValueError, OverflowError) as error:  # such as a descriptor that is negative, or too large for C
        raise ValueError(f"--fd {fd} is no socket ({getattr(error, 'strerror', None) or error}).") from error
    if inherited.type != socket.SOCK_STREAM or not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.detach()  # it is not this function's to close
        raise ValueError(f"--fd {fd} is a socket that does not listen for connections.")
    return inherited
